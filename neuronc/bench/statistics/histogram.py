"""Bins that show both the body of a distribution and that it has a tail."""

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_BINS = 60
_FAR_OUT = 3.0  # interquartile ranges from the quartiles, Tukey's outer fences


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """``counts[i]`` samples lie in ``edges[i]`` to ``edges[i + 1]``; the last edge belongs to it."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def make_histogram(ordered: np.ndarray[Any, np.dtype[np.float64]]) -> Histogram:
    """Bins of Freedman and Diaconis' width, ``2 IQR / n^(1/3)``, at most `MAX_BINS`.

    Equal widths between Tukey's outer fences. What lies beyond a fence shares one wider bin there:
    else one stall of a hundred times the median would squeeze all others into one bin.
    """
    lowest, highest = float(ordered[0]), float(ordered[-1])
    if highest <= lowest:
        half = max(abs(lowest) * 5e-3, 1e-9)
        return Histogram(edges=(lowest - half, lowest + half), counts=(int(ordered.size),))
    first, third = (float(value) for value in np.percentile(ordered, [25, 75]))
    spread = third - first
    begin, end = lowest, highest
    if spread > 0:
        begin = max(lowest, first - _FAR_OUT * spread)
        end = min(highest, third + _FAR_OUT * spread)
        wanted = np.ceil((end - begin) / (2 * spread / ordered.size ** (1 / 3)))
    else:
        wanted = np.ceil(np.log2(ordered.size) + 1)  # Sturges: half the samples are equal
    tails = (begin > lowest) + (end < highest)
    inner = np.linspace(begin, end, int(np.clip(wanted, 1, MAX_BINS - tails)) + 1)
    edges = np.unique(np.concatenate([[lowest], inner, [highest]]))
    counts, _ = np.histogram(ordered, bins=edges)
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
