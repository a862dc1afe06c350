"""What a program has to read and compute, and what the machine could do in that time."""
