"""Stage 1 of 8: what is on disk, headers first, tensors streamed; no framework import."""
