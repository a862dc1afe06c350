"""The proof: a compiled artifact against the original model."""
