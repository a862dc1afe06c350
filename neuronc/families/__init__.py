"""What is known about model families: from transformers, plus one small file where it is not enough."""
