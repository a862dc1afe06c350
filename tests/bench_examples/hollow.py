"""A document in which all that may be null is null, as a run that measured nothing would give."""

from typing import Any

from tests.bench_examples.simulate import Json

REASON = "nothing was measured"
NULLABLE = {
    *("value", "low", "high", "relative_half_width", "mean", "sd", "min", "max"),
    *("tokens_per_s", "bytes", "flops", "needed_bytes", "needed_flops", "intensity"),
    *(
        "mbu",
        "mfu",
        "floor_ms",
        "over_floor",
        "p99_9_over_p50",
        "cv",
        "occupancy",
        "fluidity",
        "attainment",
    ),
    *("major_faults", "minor_faults", "involuntary_switches", "gc_ms", "share_of_itl_time"),
    *("host_gap_ms", "steady", "duration_s", "knee", "best", "source"),
}


def hollow(value: Any) -> Any:
    """A copy with nulls, reasons beside them, and distributions without samples."""
    if isinstance(value, list):
        return [hollow(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {
        key: None if _may_be_null(key, inner) else hollow(inner) for key, inner in value.items()
    }
    if "reason" in made:
        made["reason"] = REASON
    if "histogram" in made:
        made |= {"n": 0, "curve": [], "histogram": {"edges": [], "counts": []}}
    return made


def hollow_document(document: Json) -> Json:
    """`hollow`, with what is not nullable where its name suggests it put back."""
    made: Json = hollow(document)
    made["machine"] = None
    made["validation"]["source"] = document["validation"]["source"]
    made["definitions"] = document["definitions"]
    for runs in _run_sets(made):
        runs["pooled"] = dict.fromkeys(runs["pooled"])
        runs["stalls"]["itl_ms"] = None
        for run in runs["repeats"]:
            run["metrics"] = dict.fromkeys(run["metrics"])
    if made["timeline"] is not None:
        for request in made["timeline"]["requests"]:
            request |= {"send_ns": None, "admit_ns": None, "token_times_ns": []}
            request |= {"finish": "failed", "error": REASON}
        made["timeline"]["steps"] = []
    return made


def _may_be_null(key: str, inner: object) -> bool:
    scalar = not isinstance(inner, dict | list)
    return key in NULLABLE and (scalar or key in {"host_gap_ms", "steady", "knee", "best"})


def _run_sets(document: Json) -> list[Json]:
    modes = document["modes"]
    points = modes.get("sweep", {"points": ()})["points"]
    found = [modes[name] for name in ("latency", "throughput", "serve") if name in modes]
    return [*found, *(point["runs"] for point in points)]
