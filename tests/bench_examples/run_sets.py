"""The document's RunSet over simulated repeats."""

from bisect import bisect_left
from itertools import pairwise
from statistics import fmean, median

from tests.bench_examples.simulate import NS_PER_MS, Json, Load
from tests.bench_examples.summarise import (
    NAMES,
    distribution,
    estimate,
    occupancy,
    run_metrics,
    samples_of,
    steps_by_class,
    wilson,
)


def run_set(
    mode: str, timelines: list[Json], load: Load, *, slo: dict[str, float] | None = None
) -> Json:
    """The document's RunSet over some repeats."""
    pooled = {name: [v for t in timelines for v in samples_of(t)[name]] for name in NAMES}
    goods = [_good(timeline, slo) if slo else None for timeline in timelines]
    repeats = [_run(timeline, good) for timeline, good in zip(timelines, goods, strict=True)]
    names = repeats[0]["metrics"]
    gaps = [g for t in timelines for g in _host_gaps(t)]
    sent = sum(len(timeline["requests"]) for timeline in timelines)
    joint = wilson(sum(good or 0 for good in goods), sent)
    marginal = {
        name: wilson(min(sent, joint["good"] + i), sent) for i, name in enumerate(slo or {})
    }
    return {
        "mode": mode,
        "arrival": "closed" if load.concurrency else "poisson",
        "concurrency": load.concurrency,
        "rate": load.rate,
        "repeats": repeats,
        "estimates": {name: estimate([run["metrics"][name] for run in repeats]) for name in names},
        "converged": len(repeats) > 1,
        "why_stopped": "every watched interval is within 2.5 %"
        if len(repeats) > 1
        else "the time budget ended",
        "pooled": {n: distribution(values) if values else None for n, values in pooled.items()},
        "steps": _step_classes(timelines),
        "slowest_steps": _slowest(timelines),
        "host_gap_ms": distribution(gaps) if gaps else None,
        "slo": {**slo, "joint": joint, "marginal": marginal, "fluidity": 0.97} if slo else None,
        "stalls": _stalls(timelines),
    }


def _good(timeline: Json, slo: dict[str, float]) -> int:
    one = ({**timeline, "requests": [r]} for r in timeline["requests"])
    met = (samples_of(single) for single in one)
    return sum(all(s[n] and s[n][0] <= limit for n, limit in slo.items()) for s in met)


def _run(timeline: Json, good: int | None) -> Json:
    metrics = run_metrics(timeline, good)
    duration_s = metrics["duration_s"]
    failed = sum(r["finish"] == "failed" for r in timeline["requests"])
    classes = {name: _total(steps) for name, steps in steps_by_class([timeline]).items()}
    long = len(timeline["requests"]) >= 12 and duration_s is not None
    return {
        "duration_s": duration_s,
        "num_requests": len(timeline["requests"]),
        "num_failed": failed,
        "steady": {"start_s": 0.2, "end_s": 0.8 * (duration_s or 0)} if long else None,
        "metrics": metrics,
        "steps": classes,
    }


def _total(steps: list[Json]) -> Json:
    ms = [step_ms(step) for step in steps]
    return {"count": len(ms), "mean_ms": fmean(ms), "total_ms": sum(ms)}


def step_ms(step: Json) -> float:
    return float(step["end_ns"] - step["start_ns"]) / NS_PER_MS


def _host_gaps(timeline: Json) -> list[float]:
    steps = timeline["steps"]
    gaps = [(b["start_ns"] - a["end_ns"]) / NS_PER_MS for a, b in pairwise(steps)]
    return [gap for gap in gaps if gap < 1.0]  # longer ones waited for an arrival


def _step_classes(timelines: list[Json]) -> Json:
    groups = steps_by_class(timelines)
    total = sum(step_ms(s) for steps in groups.values() for s in steps)
    made = {}
    for name, steps in groups.items():
        spread = distribution([step_ms(s) for s in steps])
        points = spread["percentiles"]
        cv = spread["sd"] / spread["mean"] if spread["sd"] is not None else None
        made[name] = {
            "count": len(steps),
            "ms": spread,
            "share": sum(step_ms(s) for s in steps) / total,
            "jitter": {"p99_9_over_p50": points["p99_9"]["value"] / points["p50"]["value"]}
            | {"cv": cv},
            "mbu": 0.81 if name.startswith("decode") else 0.22,
            "mfu": 0.06 if name.startswith("decode") else 0.58,
            "floor_ms": 0.8 * points["p50"]["value"],
            "over_floor": 1.25,
            "occupancy": occupancy(steps, timelines[0]["batch_size"]),
        }
    return made


def _slowest(timelines: list[Json]) -> list[Json]:
    typical = {n: median(map(step_ms, steps)) for n, steps in steps_by_class(timelines).items()}
    likely = ("involuntary switch", "unexplained", "garbage collection", "page faults")
    steps = [
        (step_ms(s) / typical[s["class"]], k, s)
        for k, t in enumerate(timelines)
        for s in t["steps"]
    ]
    steps.sort(key=lambda entry: entry[0], reverse=True)
    return [
        {
            "class": step["class"],
            "ms": step_ms(step),
            "times_median": times,
            "repeat": repeat,
            "at_s": step["start_ns"] / 1e9,
            "active_slots": len(step["slots"]),
            "major_faults": 0,
            "minor_faults": 412 if rank % 4 == 3 else 2,
            "involuntary_switches": 3 if rank % 4 == 0 else 0,
            "gc_ms": 9.4 if rank % 4 == 2 else 0.0,
            "likely": likely[rank % 4],
        }
        for rank, (times, repeat, step) in enumerate(steps[:10])
    ]


def _stalls(timelines: list[Json]) -> Json:
    gaps, total = [], 0.0
    for timeline in timelines:
        starts = [s["start_ns"] for s in timeline["steps"] if s["phase"] == "prefill"]
        for request in timeline["requests"]:
            for begin, end in pairwise(request["token_times_ns"]):
                total += (end - begin) / NS_PER_MS
                if bisect_left(starts, end) > bisect_left(starts, begin):
                    gaps.append((end - begin) / NS_PER_MS)
    return {
        "count": len(gaps),
        "itl_ms": distribution(gaps) if gaps else None,
        "share_of_itl_time": sum(gaps) / total if total else None,
    }
