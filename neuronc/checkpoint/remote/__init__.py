"""Checkpoints behind a URL: small files are copied, tensors are read by ranges of bytes."""
