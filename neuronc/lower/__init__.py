"""Stage 4 of 8: exported program to StableHLO to HLO."""
