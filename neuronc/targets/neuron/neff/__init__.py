"""Reading NEFF files."""
