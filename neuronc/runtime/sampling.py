"""Choosing the next token on the host."""

from typing import Any

import numpy as np

from neuronc.errors import UsageError
from neuronc.runtime.request import SamplingParams

Logits = np.ndarray[Any, Any]


def check_sampling(params: SamplingParams) -> None:
    """Refuse values that mean nothing.

    Raises:
        UsageError: names the option and its range.
    """
    problems = (
        (params.temperature >= 0.0, f"--temperature is {params.temperature}; it must be 0 or more"),
        (params.top_k >= 0, f"--top-k is {params.top_k}; it must be 0 (all) or more"),
        (0.0 < params.top_p <= 1.0, f"--top-p is {params.top_p}; it must be above 0 and at most 1"),
    )
    for fine, message in problems:
        if not fine:
            raise UsageError(message, hint="see neuronc generate --help")


def sample(logits: Logits, params: SamplingParams, rng: np.random.Generator) -> int:
    """The next token id from ``logits [vocab]``.

    Greedy is the first of equal maxima. Otherwise temperature, then top-k, then top-p, then one
    draw; cost is linear in the vocabulary, plus a sort of what top-k left.
    """
    if params.temperature == 0.0:
        return int(np.argmax(logits))
    ids = np.arange(logits.shape[0])
    scores = logits.astype(np.float64) / params.temperature
    if 0 < params.top_k < scores.shape[0]:
        ids = np.argpartition(scores, -params.top_k)[-params.top_k :]
        scores = scores[ids]
    order = np.argsort(-scores, kind="stable")
    probabilities = np.exp(scores[order] - scores[order[0]])
    probabilities /= probabilities.sum()
    if params.top_p < 1.0:
        # A token stays when what is before it has not reached top_p: at least one always stays.
        before = np.cumsum(probabilities) - probabilities
        probabilities = np.where(before < params.top_p, probabilities, 0.0)
        probabilities /= probabilities.sum()
    return int(ids[order[rng.choice(order.shape[0], p=probabilities)]])
