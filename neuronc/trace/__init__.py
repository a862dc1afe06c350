"""Stage 3 of 8: one rank's module and example shapes to an exported program."""
