"""Stage 5 of 8: compile a lowered program, open a compiled one; one module per target."""
