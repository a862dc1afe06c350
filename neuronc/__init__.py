"""neuronc: ahead-of-time compilation of language models, proven correct without the device.

Importing this package loads nothing heavy; torch, jax and transformers are imported by the
stages that need them.
"""

__version__ = "0.1.0"
