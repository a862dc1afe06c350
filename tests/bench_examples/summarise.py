"""Plain statistics for example documents; they only have to be plausible and well formed."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

from tests.bench_examples.simulate import NS_PER_MS, Json, gaps_ms

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
NAMES = (
    *("ttft_ms", "ttft_send_ms", "queue_ms", "tpot_ms", "itl_ms", "e2e_ms", "norm_ms"),
    "late_ms",
)


def distribution(samples: Sequence[float]) -> Json:
    """The document's Distribution of some samples, at least one."""
    ordered = sorted(samples)
    low, high = ordered[0], ordered[-1]
    width = (high - low) / 30 or 1.0
    counts = [0] * 30
    for sample in ordered:
        counts[min(29, int((sample - low) / width))] += 1
    grid = [i / 100 for i in range(100)] + [1 - 10 ** (-2 - i / 20) for i in range(40)]
    return {
        "n": len(ordered),
        "mean": fmean(ordered),
        "sd": stdev(ordered) if len(ordered) > 1 else None,
        "min": low,
        "max": high,
        "percentiles": {name: interval(ordered, q) for name, q in PERCENTILES.items()},
        "curve": [[q, quantile(ordered, q)] for q in grid if q <= 1 - 1 / (2 * len(ordered))],
        "histogram": {"edges": [low + width * i for i in range(31)], "counts": counts},
    }


def quantile(ordered: Sequence[float], q: float) -> float:
    """Linear between the order statistics."""
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def interval(ordered: Sequence[float], q: float) -> Json:
    """A percentile with ranks of a normal approximation around it."""
    n, z = len(ordered), NormalDist().inv_cdf(0.975)
    half = z * math.sqrt(n * q * (1 - q))
    low, high = math.floor(n * q - half), math.ceil(n * q + half) + 1
    known = low >= 1 and high <= n
    needed = math.ceil(math.log(0.025) / math.log(max(q, 1 - q)))
    return {
        "value": quantile(ordered, q),
        "low": ordered[low - 1] if known else None,
        "high": ordered[high - 1] if known else None,
        "reason": None if known else f"{n} samples; a 95 % interval needs {needed}",
    }


def samples_of(timeline: Json) -> dict[str, list[float]]:
    """Samples of every latency, failed requests left out."""
    samples: dict[str, list[float]] = {name: [] for name in NAMES}
    for request in timeline["requests"]:
        times = request["token_times_ns"]
        if request["finish"] == "failed" or not times:
            continue
        first_ms = (times[0] - request["sched_ns"]) / NS_PER_MS
        e2e_ms = (times[-1] - request["sched_ns"]) / NS_PER_MS
        samples["ttft_ms"].append(first_ms)
        samples["ttft_send_ms"].append((times[0] - request["send_ns"]) / NS_PER_MS)
        samples["queue_ms"].append((request["admit_ns"] - request["sched_ns"]) / NS_PER_MS)
        samples["e2e_ms"].append(e2e_ms)
        samples["late_ms"].append((request["send_ns"] - request["sched_ns"]) / NS_PER_MS)
        samples["norm_ms"].append(e2e_ms / len(times))
        samples["itl_ms"] += gaps_ms(request)
        if len(times) > 1:
            samples["tpot_ms"].append((times[-1] - times[0]) / NS_PER_MS / (len(times) - 1))
    return samples


def run_metrics(timeline: Json, good: int | None) -> dict[str, float | None]:
    """Every metric of one repeat; the goodput is None without an objective."""
    done = [r for r in timeline["requests"] if r["finish"] != "failed"]
    begin = min(r["sched_ns"] for r in timeline["requests"])
    duration_s = (max(r["token_times_ns"][-1] for r in done) - begin) / 1e9
    tokens = sum(len(r["token_times_ns"]) for r in done)
    prompts = sum(r["prompt_tokens"] for r in done)
    metrics: dict[str, float | None] = {}
    for name, samples in samples_of(timeline).items():
        ordered = sorted(samples)
        values = {"mean": fmean(ordered), "min": ordered[0], "max": ordered[-1]} if ordered else {}
        quantiles = {p: quantile(ordered, q) for p, q in PERCENTILES.items()} if ordered else {}
        for stat in ("mean", *PERCENTILES, "min", "max"):
            metrics[f"{name}.{stat}"] = (values | quantiles).get(stat)
    sent = len(timeline["requests"])
    for name, stat in (("user_tokens_per_s", "p50"), ("user_tokens_per_s_p95", "p95")):
        tpot_ms = metrics[f"tpot_ms.{stat}"]
        metrics[name] = 1000 / tpot_ms if tpot_ms else None
    return metrics | {
        "kept_up": 1.0,
        "output_tokens_per_s": tokens / duration_s,
        "total_tokens_per_s": (tokens + prompts) / duration_s,
        "requests_per_s": len(done) / duration_s,
        "output_tokens_per_s_steady": None if sent < 12 else 1.03 * tokens / duration_s,
        "goodput_requests_per_s": None if good is None else good / duration_s,
        "attainment": None if good is None else good / sent,
        "occupancy": occupancy(timeline["steps"], timeline["batch_size"]),
        "pad_waste": pad_waste(timeline["steps"]),
        "useful": 0.71,
        "duration_s": duration_s,
        "fluidity": None if good is None else 0.97,
    }


def occupancy(steps: list[Json], batch_size: int) -> float:
    """Busy slots of all slots, weighted with time."""
    total: int = sum(s["end_ns"] - s["start_ns"] for s in steps)
    busy: int = sum(len(s["slots"]) * (s["end_ns"] - s["start_ns"]) for s in steps)
    return busy / total / batch_size


def pad_waste(steps: list[Json]) -> float | None:
    """Share of prefill positions that were padding; None without a prefill."""
    prefill = [s for s in steps if s["phase"] == "prefill"]
    positions = sum(s["bucket"] for s in prefill)
    return 1 - sum(s["num_tokens"] for s in prefill) / positions if positions else None


def estimate(values: Sequence[float | None]) -> Json:
    """Mean over repeats with a Student interval; nulls carry the reason."""
    known = [value for value in values if value is not None]
    made: Json = {"value": fmean(known) if known else None, "low": None, "high": None}
    made |= {"n": len(known), "confidence": 0.95, "relative_half_width": None, "reason": None}
    if len(known) < 2:
        return made | {"reason": "one repeat has no spread" if known else "undefined in every run"}
    half = STUDENT_T[len(known)] * stdev(known) / math.sqrt(len(known))
    mean = fmean(known)
    relative = half / mean if mean else None
    return made | {"low": mean - half, "high": mean + half, "relative_half_width": relative}


def wilson(good: int, sent: int) -> Json:
    """An Attainment with its Wilson interval."""
    z, share = 1.96, good / sent
    middle = (share + z * z / (2 * sent)) / (1 + z * z / sent)
    half = z / (1 + z * z / sent) * math.sqrt(share * (1 - share) / sent + (z / (2 * sent)) ** 2)
    made: dict[str, Any] = {"good": good, "sent": sent, "attainment": share}
    return made | {"low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def steps_by_class(timelines: Sequence[Json]) -> dict[str, list[Json]]:
    """All steps of all repeats under their class."""
    groups: defaultdict[str, list[Json]] = defaultdict(list)
    for timeline in timelines:
        for step in timeline["steps"]:
            groups[step["class"]].append(step)
    return dict(sorted(groups.items()))
