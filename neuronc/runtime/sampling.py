"""Choosing the next token on the host."""

import math
from typing import Any

import numpy as np

from neuronc.errors import InputError, UsageError
from neuronc.runtime.request import SamplingParams

Array = np.ndarray[Any, Any]
_NOT_FINITE = "neuronc verify names weights that hold NaN or infinity"


def check_sampling(params: SamplingParams) -> None:
    """Refuse values that mean nothing.

    Raises:
        UsageError: names the option and its range.
    """
    temperature, top_k, top_p, seed = params.temperature, params.top_k, params.top_p, params.seed
    problems = (
        (
            0.0 <= temperature < math.inf,
            f"--temperature is {temperature}; it must be a finite number, 0 or more",
        ),
        (top_k >= 0, f"--top-k is {top_k}; it must be 0 (all) or more"),
        (0.0 < top_p <= 1.0, f"--top-p is {top_p}; it must be above 0 and at most 1"),
        (seed >= 0, f"--seed is {seed}; it must be 0 or more"),
    )
    for fine, message in problems:
        if not fine:
            raise UsageError(message, hint="see neuronc generate --help")


def greedy(logits: Array) -> int:
    """The first of the largest of ``logits [vocab]``; ``vocab`` where that is NaN or infinite.

    Programs that sample on the device do the same: see `neuronc.trace.greedy`.
    """
    scores = logits.astype(np.float32, copy=False)
    best = int(np.argmax(scores))  # a NaN counts as the largest
    return best if np.isfinite(scores[best]) else len(scores)


def check_token(token: int, vocab_size: int) -> int:
    """``token``, which a program sampled.

    Raises:
        InputError: it is none of the vocabulary, so there was no most likely token.
    """
    if not 0 <= token < vocab_size:
        message = (
            "the model's logits are not finite: its program gave"
            f" {token} as the most likely of {vocab_size} tokens"
        )
        raise InputError(message, hint=_NOT_FINITE)
    return token


def sample(logits: Array, params: SamplingParams, rng: np.random.Generator) -> int:
    """The next token id from ``logits [vocab]``.

    Greedy is the first of equal maxima. Otherwise temperature, then top-k, then top-p, then one
    draw. Cost is linear in the vocabulary; only what top-k or top-p can keep is sorted.

    Raises:
        InputError: the largest logit is NaN or infinite, so there is no most likely token.
    """
    best = _first_largest(logits)
    largest = float(logits[best])
    if not math.isfinite(largest):
        message = f"the model's logits are not finite: {largest} for token {best}"
        raise InputError(message, hint=_NOT_FINITE)
    if params.temperature == 0.0:
        return best
    scores = logits.astype(np.float32, copy=False)  # numpy compares half precision slowly
    ids = _top_k(scores, params.top_k)
    temperature = min(max(params.temperature, 1e-30), 1e30)  # f32 has no room for more
    with np.errstate(over="ignore", under="ignore"):  # far below the best is probability 0
        weights = np.exp((scores[ids] - scores[best]) / temperature)
    if params.top_p < 1.0:
        kept = _top_p(weights, params.top_p)
        ids, weights = ids[kept], weights[kept]
    cumulative = np.cumsum(weights, dtype=np.float64)
    return int(ids[np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")])


def _first_largest(logits: Array) -> int:
    """The first of the largest, or of the NaN.

    numpy converts f16 slowly. As integers with the magnitude's bits flipped below zero, its values
    are in the same order, but for the two zeros and for NaN of either sign.
    """
    if logits.dtype == np.float16:
        bits = logits.view(np.int16)
        keys = bits ^ ((bits >> 15) & 0x7FFF)
        best = int(keys.argmax())
        smallest = logits[int(keys.argmin())]
        if logits[best] != 0 and not (np.isnan(logits[best]) or np.isnan(smallest)):
            return best
    return int(np.argmax(logits.astype(np.float32, copy=False)))


def _top_k(scores: Array, k: int) -> Array:
    """Ids of the ``k`` largest scores, of equal ones the lower ids; all ids if ``k`` is 0."""
    if not 0 < k < scores.shape[0]:
        return np.arange(scores.shape[0])
    ids = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return ids[np.argsort(-scores[ids], kind="stable")][:k]


def _top_p(weights: Array, p: float) -> Array:
    """Places of the fewest largest weights that make up ``p`` of the sum, at least one."""
    total = weights.sum(dtype=np.float64)
    # All those below this bound together weigh less than the 1 - p that may be left out.
    places = np.flatnonzero(weights >= (1.0 - p) * total / weights.shape[0])
    order = places[np.argsort(-weights[places], kind="stable")]
    reached = np.searchsorted(np.cumsum(weights[order], dtype=np.float64), p * total)
    return order[: reached + 1]
