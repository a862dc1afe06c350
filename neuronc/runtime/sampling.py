"""Choosing the next token on the host."""

import math
from typing import Any

import numpy as np

from neuronc.errors import InputError, UsageError
from neuronc.runtime.request import SamplingParams

Array = np.ndarray[Any, Any]


def check_sampling(params: SamplingParams) -> None:
    """Refuse values that mean nothing.

    Raises:
        UsageError: names the option and its range.
    """
    temperature, top_k, top_p, seed = params.temperature, params.top_k, params.top_p, params.seed
    problems = (
        (0.0 <= temperature < math.inf, f"--temperature is {temperature}; it must be 0 or more"),
        (top_k >= 0, f"--top-k is {top_k}; it must be 0 (all) or more"),
        (0.0 < top_p <= 1.0, f"--top-p is {top_p}; it must be above 0 and at most 1"),
        (seed >= 0, f"--seed is {seed}; it must be 0 or more"),
    )
    for fine, message in problems:
        if not fine:
            raise UsageError(message, hint="see neuronc generate --help")


def sample(logits: Array, params: SamplingParams, rng: np.random.Generator) -> int:
    """The next token id from ``logits [vocab]``.

    Greedy is the first of equal maxima. Otherwise temperature, then top-k, then top-p, then one
    draw. Cost is linear in the vocabulary; only what top-k or top-p can keep is sorted.

    Raises:
        InputError: the largest logit is NaN or infinite, so there is no most likely token.
    """
    scores = logits.astype(np.float32, copy=False)  # numpy compares half precision slowly
    best = int(np.argmax(scores))  # a NaN counts as the largest
    if not np.isfinite(scores[best]):
        message = f"the model's logits are not finite: {scores[best]} for token {best}"
        raise InputError(message, hint="neuronc verify names weights that hold NaN or infinity")
    if params.temperature == 0.0:
        return best
    with np.errstate(over="ignore", under="ignore"):  # far below the best is probability 0
        weights = np.exp((scores - scores[best]).astype(np.float64) / params.temperature)
    ids = _keep(weights, params)
    cumulative = np.cumsum(weights[ids])
    return int(ids[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")])


def _keep(weights: Array, params: SamplingParams) -> Array:
    """Ids that top-k and then top-p leave; of equal weights the lower id is kept first."""
    size = weights.shape[0]
    ids = np.arange(size)
    if 0 < params.top_k < size:
        least = np.partition(weights, -params.top_k)[-params.top_k]
        ids = _most_likely_first(np.flatnonzero(weights >= least), weights)[: params.top_k]
    if params.top_p == 1.0:
        return ids
    # All tokens below this bound together weigh less than 1 - top_p, so none of them is kept.
    total = weights[ids].sum()
    bound = (1.0 - params.top_p) * total / ids.shape[0]
    ids = _most_likely_first(np.sort(ids[weights[ids] >= bound]), weights)
    reached = np.searchsorted(np.cumsum(weights[ids]), params.top_p * total)
    return ids[: reached + 1]


def _most_likely_first(ids: Array, weights: Array) -> Array:
    return ids[np.argsort(-weights[ids], kind="stable")]
