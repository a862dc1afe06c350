"""Intervals of percentiles of what several repeats measured together.

Repeats make the same requests again, so their samples are no more of them: a request that takes
long does so each time. Nor are those of one run independent: they share what the machine did
meanwhile. So an interval is made of two, each for what the other cannot see:

- other requests: a block bootstrap that draws requests, each with its samples of all repeats (of an
  open loop several neighbours together, which were in one queue);
- other runs: Student's of the same percentile of each repeat.

Distances of the ends from the value are added as squares. What both see, the noise of a single
sample, is counted twice, so the interval is rather too wide. Where three runs differ more than
requests do, the tail of runs is unknown, and p90 is covered 90 times in 100. With one repeat there
is only the first. Times are not below 0, so no end is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuronc.bench.statistics.bootstrap import MIN_BLOCKS, FloatArray, percentile_bounds
from neuronc.bench.statistics.distribution import (
    CONFIDENCE,
    PERCENTILES,
    Distribution,
    Percentile,
    describe,
    interpolate,
)
from neuronc.bench.statistics.quantiles import samples_needed, student_t_quantile

MEANT = (
    f"Of pooled percentiles, {CONFIDENCE:.0%}: a block bootstrap that draws requests, each with its"
    " samples of all repeats (in an open loop n^(1/3) neighbours together; of steps and of gaps"
    " between programs, n^(1/3) that ran one after another), and Student's interval of the"
    " percentile over the repeats, added as squares. Null with the reason where requests are too"
    " few; repeats of one are no others. Of programs alone: order statistics of their calls."
)
"""What the document says of these intervals."""

Repeats = Sequence[Sequence[Sequence[float]]]
"""``[repeat][request][sample]``: the same requests in each; a failed one has one infinite sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Evidence:
    """What intervals are made from.

    Attributes:
        blocks: Samples that are drawn together.
        cuts: The percentiles of each repeat, ``[repeats, percentiles]``.
        count: Of what has samples.
        unit: What that is, in the plural.
    """

    blocks: list[list[float]]
    cuts: FloatArray
    count: int
    unit: str


def describe_requests(repeats: Repeats, *, open_loop: bool) -> Distribution | None:
    """`describe` of all samples, with intervals that know what the samples have in common.

    Args:
        repeats: In the order that requests came in.
        open_loop: Whether they came by the clock, and neighbours waited for one another.
    """
    runs = [[value for request in run for value in request] for run in repeats]
    pooled = [value for run in runs for value in run]
    failures = sum(map(math.isinf, pooled))
    found = describe([value for value in pooled if math.isfinite(value)], failures=failures)
    if found is None:
        return None
    together = ([v for request in same for v in request] for same in zip(*repeats, strict=True))
    requests = [samples for samples in together if samples]
    blocks = _joined(requests, _cube_root(len(requests)) if open_loop else 1)
    return _with_intervals(
        found,
        _Evidence(blocks=blocks, cuts=_cuts(runs), count=len(requests), unit="requests"),
    )


def describe_steps(runs: Sequence[Sequence[float]]) -> Distribution | None:
    """Of what is no request's: steps, or gaps between them, in the order they ran."""
    found = describe([value for run in runs for value in run])
    if found is None:
        return None
    length = _cube_root(found.n // len(runs))
    blocks = [block for run in runs for block in _joined([[value] for value in run], length)]
    return _with_intervals(
        found, _Evidence(blocks=blocks, cuts=_cuts(runs), count=found.n, unit="steps")
    )


def _joined(parts: Sequence[list[float]], length: int) -> list[list[float]]:
    """``length`` neighbours each, as one."""
    return [
        [value for part in parts[begin : begin + length] for value in part]
        for begin in range(0, len(parts), length)
    ]


def _cuts(runs: Sequence[Sequence[float]]) -> FloatArray:
    """The percentiles of each run that has a sample which is no failure."""
    rows = []
    for run in runs:
        values = np.sort(np.asarray(run, dtype=np.float64))
        known = values[np.isfinite(values)]
        if known.size:
            rows.append(interpolate(known, np.array([*PERCENTILES.values()]), values.size))
    return np.array(rows)


def _with_intervals(found: Distribution, evidence: _Evidence) -> Distribution:
    qs = list(PERCENTILES.values())
    enough = len(evidence.blocks) >= MIN_BLOCKS
    bounds = percentile_bounds(evidence.blocks, qs) if enough else [(0.0, 0.0)] * len(qs)
    made = {}
    for number, (name, q) in enumerate(PERCENTILES.items()):
        percentile, why = found.percentiles[name], _too_few(q, evidence)
        if percentile.value is None or why is not None:
            reason = percentile.reason if percentile.value is None else why
            made[name] = replace(percentile, low=None, high=None, reason=reason)
        else:
            cuts = evidence.cuts[:, number]
            made[name] = _interval(percentile.value, bounds[number], cuts, found.failures)
    return replace(found, percentiles=made)


def _too_few(q: float, evidence: _Evidence) -> str | None:
    needed, unit = samples_needed(q, CONFIDENCE), evidence.unit
    if evidence.count < needed:
        others = ", and repeats of one are no others" if unit == "requests" else ""
        asked = f"a {CONFIDENCE:.0%} interval of p{100 * q:g} needs {needed} {unit}"
        return f"{asked}; there are {evidence.count}{others}"
    if len(evidence.blocks) < MIN_BLOCKS:
        return f"resampling needs {MIN_BLOCKS} blocks of {unit}; there are {len(evidence.blocks)}"
    return None


def _interval(
    value: float, bounds: tuple[float, float], cuts: FloatArray, failures: int
) -> Percentile:
    if not (math.isfinite(bounds[1]) and np.isfinite(cuts).all()):
        reason = f"the interval's upper end falls among the {failures} failed"
        return Percentile(value=value, low=None, high=None, reason=reason)
    half = 0.0
    if len(cuts) > 1:
        t = student_t_quantile((1 + CONFIDENCE) / 2, len(cuts) - 1)
        half = t * float(np.std(cuts, ddof=1)) / math.sqrt(len(cuts))
    low = value - math.hypot(value - bounds[0], half)
    high = value + math.hypot(bounds[1] - value, half)
    return Percentile(value=value, low=max(0.0, low), high=high, reason=None)


def _cube_root(n: int) -> int:
    root: float = n ** (1 / 3)
    return max(1, math.ceil(round(root, 9)))
