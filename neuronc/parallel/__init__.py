"""Stage 2 of 8: which part of which tensor goes to which rank, and applying it."""
