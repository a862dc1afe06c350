"""The repeats of one kind of run, as the JSON document has them."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from statistics import fmean, median, pstdev
from typing import Any

from neuronc.bench import metrics, slo
from neuronc.bench.modes.runs import RunSet
from neuronc.bench.modes.steps import MeasuredCell
from neuronc.bench.roofline.steps import Roofline
from neuronc.bench.slo import Slo
from neuronc.bench.statistics.distribution import Distribution, describe
from neuronc.bench.statistics.estimate import estimate
from neuronc.bench.statistics.pooled import describe_requests, describe_steps
from neuronc.bench.step_classes import occupancy_by_class, slowest_steps, times_by_class

_LIMITS = (
    *("bytes", "flops", "needed_bytes", "needed_flops", "intensity"),
    *("mbu", "mfu", "floor_ms", "over_floor"),
)
_LIMITS_OF_CLASS = ("mbu", "mfu", "floor_ms", "over_floor")


def run_set_dict(found: RunSet, wanted: Slo | None, roofline: Roofline | None) -> dict[str, Any]:
    """Estimates over the repeats, all samples pooled, and the steps they were made of."""
    timelines, decision = found.timelines, found.decision
    assert decision is not None, "the repeats have ended"
    gaps = [metrics.host_gap_ms(timeline) for timeline in timelines]
    return {
        "mode": found.mode.mode,
        **found.mode.load.to_dict(),
        "repeats": [summary.to_dict() for summary in found.summaries],
        "estimates": {
            name: estimate(
                found.values(name), least=0.0, most=1.0 if name in metrics.SHARES else None
            ).to_dict()
            for name in found.summaries[0].metrics
        },
        "converged": decision.converged,
        "why_stopped": decision.why,
        "pooled": {name: _pooled(found, name) for name in metrics.SAMPLES},
        "steps": _steps(found, roofline),
        "slowest_steps": [step.to_dict() for step in slowest_steps(timelines)],
        "host_gap_ms": _dict(describe_steps(gaps)),
        "slo": _slo(found, wanted),
        "stalls": _stalls(found),
    }


def _dict(found: Distribution | None) -> dict[str, Any] | None:
    return None if found is None else found.to_dict()


def _pooled(found: RunSet, name: str) -> dict[str, Any] | None:
    """A metric of all requests of all repeats; failed ones are above all others."""
    # of gaps nobody knows how many a request still owes
    lost = () if name == "itl_ms" else (math.inf,)
    repeats = []
    for timeline in found.timelines:
        samples = metrics.samples_by_request(name, timeline)
        failed = {r.request_id: lost for r in timeline.requests if not r.is_done}
        repeats.append({**samples, **failed})
    return _by_request(found, repeats)


def _by_request(
    found: RunSet, repeats: Sequence[Mapping[str, Sequence[float]]]
) -> dict[str, Any] | None:
    order = [request.request_id for request in found.mode.requests]
    aligned = [[samples.get(name, ()) for name in order] for samples in repeats]
    open_loop = found.mode.load.rate is not None or found.mode.load.arrival is None
    return _dict(describe_requests(aligned, open_loop=open_loop))


def _steps(found: RunSet, roofline: Roofline | None) -> dict[str, Any]:
    by_run = [times_by_class([timeline]) for timeline in found.timelines]
    times = times_by_class(found.timelines)
    total_ms, used = sum(map(sum, times.values())), occupancy_by_class(found.timelines)
    limits = {} if roofline is None else roofline.of_classes(found.timelines)
    return {
        name: {
            "count": len(values),
            "ms": _dict(describe_steps([run.get(name, ()) for run in by_run])),
            "share": sum(values) / total_ms if total_ms else None,
            "jitter": _jitter(values),
            **{key: getattr(limits.get(name), key, None) for key in _LIMITS_OF_CLASS},
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


def _stalls(found: RunSet) -> dict[str, Any]:
    stalled = [metrics.stalled_itl_by_request(timeline) for timeline in found.timelines]
    gaps = [gap for run in stalled for request in run.values() for gap in request]
    total_ms = sum(
        gap for run in found.timelines for r in run.requests for gap in metrics.itl_ms(r)
    )
    return {
        "count": len(gaps),
        "itl_ms": _by_request(found, stalled),
        "share_of_itl_time": sum(gaps) / total_ms if total_ms else None,
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
        "ms": _dict(describe(calls_ms)),
        "tokens_per_s": 1000 * cell.tokens / median(calls_ms),
        **_limits(measured, roofline),
    }


def _limits(measured: MeasuredCell, roofline: Roofline | None) -> dict[str, float | int | None]:
    if roofline is None:
        return dict.fromkeys(_LIMITS)
    return roofline.of_cell(measured.cell, median(measured.calls_ms)).to_dict()
