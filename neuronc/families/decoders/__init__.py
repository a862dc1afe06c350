"""One file per family that needs more than transformers' own tensor-parallel plan."""
