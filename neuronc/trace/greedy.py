"""Greedy sampling inside a program: the most likely token in place of a row of logits."""

import torch

INFINITY = float("inf")


def greedy_tokens(logits_NV: torch.Tensor) -> torch.Tensor:
    """``[N]`` i32: the first of each row's largest logits, ``V`` if that is NaN or infinite.

    As the host chooses, see `neuronc.runtime.sampling.greedy`. No device has a maximum that gives
    its place as well; largest, compare, select and smallest every device has. A NaN becomes
    infinity first, since what a device's maximum makes of it is not documented.
    """
    vocab_size = logits_NV.shape[-1]
    is_number = logits_NV >= -INFINITY  # `x == x` says it too, and is folded away on the way down
    scores = torch.where(is_number, logits_NV, INFINITY)
    best = scores.amax(-1, keepdim=True)
    places = torch.arange(vocab_size, dtype=torch.int32)
    first = torch.where(scores == best, places, vocab_size).amin(-1)
    is_finite = (best[:, 0] < INFINITY) & (best[:, 0] > -INFINITY)
    return torch.where(is_finite, first, vocab_size)
