"""Intervals of samples that hang together: resample whole requests, not gaps.

Gaps of one request share its slot, its neighbours and the moment it ran, so pooled gaps count for
less than their number. Drawing requests with replacement keeps what hangs together together
(block bootstrap, one block per request; Kuensch 1989, Liu and Singh 1992).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.bench.statistics.distribution import CONFIDENCE, interpolate
from neuronc.bench.statistics.quantiles import samples_needed

RESAMPLES = 1000
MAX_SAMPLES = 20_000
MIN_BLOCKS = 10  # with fewer, resamples are few and alike, and the interval is far too narrow
_CHUNK = 50  # resamples at a time: 50 x 20,000 weights are 8 MB

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockInterval:
    """A statistic of pooled samples, in their unit.

    Attributes:
        value: Of the samples as they are; None if there are none.
        low: Lower end of the percentile-bootstrap interval; None together with ``high``.
        high: Upper end.
        n: Samples in all blocks.
        blocks: Blocks that hold any sample.
        reason: Why the interval is None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    blocks: int
    reason: str | None


def bootstrap(
    blocks: Sequence[Sequence[float]],
    q: float | None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> BlockInterval:
    """Interval of the pooled percentile ``q`` in 0..1, or of the pooled mean for None.

    Costs at most ``resamples * MAX_SAMPLES`` additions: of more samples, every k-th in ascending
    order stands for k of them, which moves a percentile by less than k ranks.
    """
    filled = [np.asarray(block, dtype=np.float64) for block in blocks if len(block)]
    n = sum(block.size for block in filled)
    if not filled:
        return BlockInterval(value=None, low=None, high=None, n=0, blocks=0, reason="no samples")
    pooled = np.concatenate(filled)
    value = float(pooled.mean() if q is None else interpolate(np.sort(pooled), np.array([q]), n)[0])
    reason = _too_few(n, len(filled), q, confidence)
    low = high = None
    if reason is None:
        random = np.random.default_rng(seed)
        if q is None:
            draws = _means(filled, random, resamples)
        else:
            draws = np.concatenate(list(_percentiles(filled, [q], random, resamples)))[:, 0]
        low, high = _ends(draws, confidence)
    return BlockInterval(value=value, low=low, high=high, n=n, blocks=len(filled), reason=reason)


def percentile_bounds(
    blocks: Sequence[Sequence[float]],
    qs: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> list[tuple[float, float]]:
    """`bootstrap` of several percentiles with the same draws, and no question whether n is enough.

    Samples may be infinite (failures stand above all others), and then ends may be.
    """
    filled = [np.asarray(block, dtype=np.float64) for block in blocks if len(block)]
    random = np.random.default_rng(seed)
    draws = np.concatenate(list(_percentiles(filled, qs, random, resamples)))
    return [_ends(column, confidence) for column in draws.T]


def _ends(draws: FloatArray, confidence: float) -> tuple[float, float]:
    """Those draws themselves: between two of them, one may be infinite."""
    tail = (1 - confidence) / 2
    low = np.quantile(draws, tail, method="lower")
    return float(low), float(np.quantile(draws, 1 - tail, method="higher"))


def _too_few(n: int, blocks: int, q: float | None, confidence: float) -> str | None:
    if blocks < MIN_BLOCKS:
        return f"resampling needs {MIN_BLOCKS} requests that have samples; there are {blocks}"
    needed = 0 if q is None else samples_needed(q, confidence)
    if n < needed:  # no resample holds anything beyond the largest sample
        return f"a {confidence:.0%} interval of p{100 * (q or 0):g} needs {needed} samples; there are {n}"
    return None


def _multiplicities(num_blocks: int, random: np.random.Generator, resamples: int) -> IntArray:
    """How often each block is drawn, ``[resamples, num_blocks]``; each row sums to num_blocks."""
    drawn: IntArray = random.multinomial(
        num_blocks, np.full(num_blocks, 1 / num_blocks), size=resamples
    )
    return drawn


def _means(blocks: list[FloatArray], random: np.random.Generator, resamples: int) -> FloatArray:
    sums, counts = (np.array([f(block) for block in blocks]) for f in (np.sum, np.size))
    drawn = _multiplicities(len(blocks), random, resamples)
    means: FloatArray = (drawn @ sums) / (drawn @ counts)
    return means


def _percentiles(
    blocks: list[FloatArray], qs: Sequence[float], random: np.random.Generator, resamples: int
) -> Iterator[FloatArray]:
    """``[resamples, qs]`` in parts, by the weights of the samples in ascending order.

    Nothing is sorted again.
    """
    pooled = np.concatenate(blocks)
    owners = np.repeat(np.arange(len(blocks)), [block.size for block in blocks])
    order = np.argsort(pooled, kind="stable")
    every = -(-pooled.size // MAX_SAMPLES)
    order = order[every // 2 :: every]
    ordered, owners = pooled[order], owners[order]
    for begin in range(0, resamples, _CHUNK):
        drawn = _multiplicities(len(blocks), random, min(_CHUNK, resamples - begin))
        reached = np.cumsum(drawn[:, owners], axis=1)  # samples up to and with each
        yield np.stack([_cut(reached, ordered, q) for q in qs], axis=1)


def _cut(reached: IntArray, ordered: FloatArray, q: float) -> FloatArray:
    """The percentile ``q`` of each row of cumulated weights, linear between ranks."""
    places = np.maximum(q * (reached[:, -1] - 1), 0)
    lower = np.floor(places).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(reached[:, -1] - 1, 0))
    below, above = (ordered[_first_beyond(reached, rank)] for rank in (lower, upper))
    share = places - lower
    with np.errstate(invalid="ignore"):  # infinite less infinite, where nothing is between
        found: FloatArray = np.where(
            (share == 0) | (below == above), below, below + share * (above - below)
        )
    return found


def _first_beyond(reached: IntArray, ranks: IntArray) -> IntArray:
    """Index of the sample of 0-based rank ``ranks[row]`` in each row of cumulated weights."""
    found: IntArray = (reached > ranks[:, None]).argmax(axis=1)
    return found
