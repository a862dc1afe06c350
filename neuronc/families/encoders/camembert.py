"""CamemBERT: RoBERTa for French."""

from neuronc.families.encoders.roberta import family

__all__ = ["family"]
