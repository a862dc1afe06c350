"""One run as a row of numbers: what repeats are compared by."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from neuronc.bench import metrics, slo
from neuronc.bench.modes.sweep import kept_up
from neuronc.bench.slo import Slo, SloResult
from neuronc.bench.statistics.distribution import PERCENTILES, interpolate
from neuronc.bench.statistics.steady import Steady, find_steady, tokens_inside
from neuronc.bench.step_classes import summary_by_class
from neuronc.bench.timeline import Timeline

USER_RATES = {"user_tokens_per_s": "p50", "user_tokens_per_s_p95": "p95"}
"""What a user reads, tokens per second, and the percentile of tpot that it is 1 over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """One repeat.

    Attributes:
        steady: The time in which the engine was as busy as it got, in ns of the run's clock, or
            why there is none.
        begin_ns: Of the run.
        metrics: Every metric as ``NAME.STAT`` or ``NAME``; None where undefined.
        steps: Count, mean and total time of each step class, ms.
        slo: How the objectives were kept, if there are any.
    """

    duration_s: float | None
    num_requests: int
    num_failed: int
    steady: Steady
    begin_ns: int
    metrics: dict[str, float | None]
    steps: dict[str, dict[str, float]]
    slo: SloResult | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        window, begin_ns = self.steady.window, self.begin_ns
        seconds = None if window is None else [(t - begin_ns) / metrics.NS_PER_S for t in window]
        return {
            "duration_s": self.duration_s,
            "num_requests": self.num_requests,
            "num_failed": self.num_failed,
            "steady": None if seconds is None else {"start_s": seconds[0], "end_s": seconds[1]},
            "metrics": dict(self.metrics),
            "steps": dict(self.steps),
        }


def stats_of(name: str, values: Sequence[float], *, failures: int) -> dict[str, float | None]:
    """``NAME.mean``, its percentiles by linear interpolation, and its extremes.

    ``failures`` stand above all of ``values`` in the percentiles, as in the pooled ones: else a run
    would look the faster the more of its slow requests failed.
    """
    stats = ("mean", *PERCENTILES, "min", "max")
    if not values:
        return {f"{name}.{stat}": None for stat in stats}
    ordered, qs = np.sort(np.asarray(values, dtype=np.float64)), np.array([*PERCENTILES.values()])
    cuts = interpolate(ordered, qs, ordered.size + failures).tolist()
    known = (cut if isfinite(cut) else None for cut in cuts)
    found = (float(np.mean(values)), *known, min(values), max(values))
    return {f"{name}.{stat}": value for stat, value in zip(stats, found, strict=True)}


def summarize_run(timeline: Timeline, wanted: Slo | None = None) -> RunSummary:
    """Reduce one run to its numbers."""
    found: dict[str, float | None] = {}
    for name, samples in metrics.SAMPLES.items():
        # of gaps nobody knows how many a request still owes
        failures = 0 if name == "itl_ms" else timeline.num_failed
        found |= stats_of(name, samples(timeline), failures=failures)
    for name, scalar in metrics.SCALARS.items():
        found[name] = scalar(timeline)
    for name, stat in USER_RATES.items():
        tpot_ms = found[f"tpot_ms.{stat}"]
        found[name] = 1000 / tpot_ms if tpot_ms else None
    found["kept_up"] = kept_up([timeline])
    steady = find_steady(_in_slots(timeline))
    found["output_tokens_per_s_steady"] = _rate_in(timeline, steady)
    kept = None if wanted is None else slo.judge(timeline, wanted)
    if kept is not None:
        found["goodput_requests_per_s"] = slo.goodput_requests_per_s(timeline, kept)
        found["attainment"] = kept.good / kept.sent if kept.sent else None
        found["fluidity"] = kept.fluidity
    return RunSummary(
        duration_s=metrics.duration_s(timeline),
        num_requests=len(timeline.requests),
        num_failed=timeline.num_failed,
        steady=steady,
        begin_ns=timeline.begin_ns,
        metrics=found,
        steps=summary_by_class(timeline),
        slo=kept,
    )


def _in_slots(timeline: Timeline) -> list[tuple[int, int]]:
    """When each request had a slot: from its first program to its last token."""
    started = metrics.first_step_ns(timeline)
    return [(started[r.request_id], r.token_times_ns[-1]) for r in timeline.done]


def _rate_in(timeline: Timeline, steady: Steady) -> float | None:
    """Output tokens per second of the steady window."""
    if steady.window is None:
        return None
    begin_ns, end_ns = steady.window
    inside = tokens_inside([r.token_times_ns for r in timeline.requests], steady.window)
    return inside * metrics.NS_PER_S / (end_ns - begin_ns)
