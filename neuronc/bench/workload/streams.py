"""Random streams with names: changing one setting leaves what the others draw as it was."""

import hashlib

import numpy as np


def named_stream(seed: int, name: str) -> np.random.Generator:
    """A stream of its own for every name, so that no draw shifts another stream."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))
    return np.random.Generator(np.random.PCG64(sequence))
