"""The repeats of one kind of run, as the JSON document has them."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from statistics import fmean, median, pstdev
from typing import Any

from neuronc.bench import metrics, slo
from neuronc.bench.modes.runs import RunSet
from neuronc.bench.modes.steps import MeasuredCell
from neuronc.bench.roofline.steps import Roofline
from neuronc.bench.slo import Slo
from neuronc.bench.statistics.bootstrap import bootstrap
from neuronc.bench.statistics.distribution import PERCENTILES, describe
from neuronc.bench.statistics.estimate import estimate
from neuronc.bench.step_classes import occupancy_by_class, slowest_steps, times_by_class
from neuronc.bench.timeline import Timeline

_LIMITS = ("bytes", "flops", "needed_bytes", "needed_flops", "intensity", "mbu", "mfu", "floor_ms")


def run_set_dict(found: RunSet, wanted: Slo | None, roofline: Roofline | None) -> dict[str, Any]:
    """Estimates over the repeats, all samples pooled, and the steps they were made of."""
    timelines, decision = found.timelines, found.decision
    assert decision is not None, "the repeats have ended"
    failed = sum(timeline.num_failed for timeline in timelines)
    pooled = {
        name: [value for timeline in timelines for value in samples(timeline)]
        for name, samples in metrics.SAMPLES.items()
    }
    gaps = [gap for timeline in timelines for gap in metrics.host_gap_ms(timeline)]
    return {
        "mode": found.mode.mode,
        **found.mode.load.to_dict(),
        "repeats": [summary.to_dict() for summary in found.summaries],
        "estimates": {
            name: estimate(found.values(name)).to_dict() for name in found.summaries[0].metrics
        },
        "converged": decision.converged,
        "why_stopped": decision.why,
        "pooled": {
            **{name: _described(values, failed) for name, values in pooled.items()},
            "itl_ms": _described_gaps(timelines),
        },
        "steps": _steps(found, roofline),
        "slowest_steps": [step.to_dict() for step in slowest_steps(timelines)],
        "host_gap_ms": _described(gaps),
        "slo": _slo(found, wanted),
        "stalls": _stalls(found, pooled["itl_ms"]),
    }


def _described(values: Sequence[float], failures: int = 0) -> dict[str, Any] | None:
    found = describe(values, failures=failures)
    return None if found is None else found.to_dict()


def _described_gaps(timelines: Sequence[Timeline]) -> dict[str, Any] | None:
    """Gaps of all requests; those of one hang together, so intervals come from whole requests."""
    blocks = [metrics.itl_ms(request) for timeline in timelines for request in timeline.done]
    found = _described([gap for block in blocks for gap in block])
    if found is None:
        return None
    for name, q in PERCENTILES.items():
        interval = bootstrap(blocks, q)
        found["percentiles"][name] |= {
            "low": interval.low,
            "high": interval.high,
            "reason": interval.reason,
        }
    return found


def _steps(found: RunSet, roofline: Roofline | None) -> dict[str, Any]:
    times = times_by_class(found.timelines)
    total_ms, used = sum(map(sum, times.values())), occupancy_by_class(found.timelines)
    limits = {} if roofline is None else roofline.of_classes(found.timelines)
    return {
        name: {
            "count": len(values),
            "ms": _described(values),
            "share": sum(values) / total_ms if total_ms else None,
            "jitter": _jitter(values),
            "mbu": limits[name].mbu if name in limits else None,
            "mfu": limits[name].mfu if name in limits else None,
            "occupancy": used.get(name),
        }
        for name, values in times.items()
    }


def _jitter(values: Sequence[float]) -> dict[str, float | None]:
    """How steady a class is: p99.9 over p50 where there are enough steps, and sd over mean."""
    described = describe(values)
    percentiles = {} if described is None else described.to_dict()["percentiles"]
    top, middle = (percentiles.get(p, {}).get("value") for p in ("p99_9", "p50"))
    mean = fmean(values)
    return {
        "p99_9_over_p50": top / middle if top and middle else None,
        "cv": pstdev(values) / mean if mean else None,
    }


def _slo(found: RunSet, wanted: Slo | None) -> dict[str, Any] | None:
    results = [summary.slo for summary in found.summaries if summary.slo is not None]
    return slo.to_dict(wanted, reduce(add, results)) if wanted is not None else None


def _stalls(found: RunSet, gaps_ms: Sequence[float]) -> dict[str, Any]:
    stalled = [gap for timeline in found.timelines for gap in metrics.stalled_itl_ms(timeline)]
    total_ms = sum(gaps_ms)
    return {
        "count": len(stalled),
        "itl_ms": _described(stalled),
        "share_of_itl_time": sum(stalled) / total_ms if total_ms else None,
    }


def cell_dict(measured: MeasuredCell, roofline: Roofline | None) -> dict[str, Any]:
    """A program by itself."""
    cell, calls_ms = measured.cell, measured.calls_ms
    return {
        "class": cell.step_class,
        "phase": cell.phase,
        "bucket": cell.bucket,
        "active_slots": cell.active_slots,
        "context": cell.context,
        "tokens": cell.tokens,
        "n": len(calls_ms),
        "ms": _described(calls_ms),
        "tokens_per_s": 1000 * cell.tokens / median(calls_ms),
        **_limits(measured, roofline),
    }


def _limits(measured: MeasuredCell, roofline: Roofline | None) -> dict[str, float | int | None]:
    if roofline is None:
        return dict.fromkeys(_LIMITS)
    return roofline.of_cell(measured.cell, median(measured.calls_ms)).to_dict()
