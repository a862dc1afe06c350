"""XLM-R: RoBERTa with another vocabulary."""

from neuronc.families.encoders.roberta import family

__all__ = ["family"]
