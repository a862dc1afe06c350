"""Quantiles of the distributions that intervals rest on; scipy.special, which loads fast."""

import math
from collections.abc import Callable

from scipy import special


def normal_quantile(probability: float) -> float:
    """The z with P(Z <= z) = ``probability``, Z standard normal."""
    return float(special.ndtri(probability))


def student_t_quantile(probability: float, degrees: float) -> float:
    """The t with P(T <= t) = ``probability``, T of Student with ``degrees`` of freedom."""
    return float(special.stdtrit(degrees, probability))


def binomial_cdf(successes: int, trials: int, chance: float) -> float:
    """P(B <= ``successes``), B the number of successes in ``trials``."""
    if successes < 0:
        return 0.0
    return float(special.bdtr(min(successes, trials), trials, chance))


def order_statistic_ranks(n: int, q: float, confidence: float) -> tuple[int, int] | None:
    """Ranks (from 1) of the two samples that bracket the quantile ``q`` of what was sampled.

    For any distribution, ``P(x_(low) <= x_q <= x_(high)) = P(low <= B <= high - 1)`` with B
    binomial(n, q) (David and Nagaraja, Order Statistics, 7.1). ``low`` is the largest and ``high``
    the smallest rank that misses with at most ``(1 - confidence) / 2`` each; None if there is none.
    """
    if n < samples_needed(q, confidence):
        return None
    tail = (1 - confidence) / 2
    low = _largest(lambda rank: binomial_cdf(rank - 1, n, q) <= tail, n)
    # P(B >= rank), counted from the other side: 1 - cdf would round away small tails
    high = n + 1 - _largest(lambda back: binomial_cdf(back - 1, n, 1 - q) <= tail, n)
    return low, high


def samples_needed(q: float, confidence: float) -> int:
    """Least n for which both ranks exist: (1 - q)^n and q^n at most (1 - confidence) / 2."""
    tail = (1 - confidence) / 2
    return _samples_needed(max(q, 1 - q), tail)


def samples_needed_above(q: float, confidence: float) -> int:
    """Least n for which an upper bound alone exists: q^n at most 1 - confidence."""
    return _samples_needed(q, 1 - confidence)


def _samples_needed(chance: float, tail: float) -> int:
    return math.ceil(math.log(tail) / math.log(chance) - 1e-9)


def _largest(holds: Callable[[int], bool], n: int) -> int:
    """Largest rank in 1..n for which ``holds``, which is true up to some rank and false beyond."""
    low, high = 1, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
