"""Stage 6 of 8: the folder we ship."""
