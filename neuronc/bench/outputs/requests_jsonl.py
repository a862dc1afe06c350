"""One JSON line per request of the runs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from neuronc.bench.outputs.reading import (
    NS_PER_MS,
    Document,
    Labelled,
    is_invalid,
    labelled_timelines,
    verdict,
)


def request_lines(document: Document, timelines: Iterable[Labelled] | None = None) -> Iterator[str]:
    """A line for each request in order of arrival; an invalid run gives one line that says so.

    Of the document's own timeline, or of ``timelines``, whose labels are in the lines.
    """
    if is_invalid(document):
        yield json.dumps({"status": "invalid", "verdict": verdict(document)})
        return
    for labels, timeline in labelled_timelines(document, timelines):
        for request in timeline["requests"]:
            yield json.dumps({"status": document["status"], **labels, **request_row(request)})


def request_row(request: Mapping[str, Any]) -> dict[str, object]:
    """A request of a Timeline with its latencies in ms; null where undefined or failed."""
    times, sched_ns = request["token_times_ns"], request["sched_ns"]
    failed = request["finish"] == "failed" or not times
    many = not failed and len(times) > 1
    return {
        "request_id": request["request_id"],
        "prompt_tokens": request["prompt_tokens"],
        "new_tokens": request["new_tokens"],
        "tokens": len(times),
        "finish": request["finish"],
        "error": request["error"],
        "sched_ms": sched_ns / NS_PER_MS,
        "queue_ms": _between(sched_ns, request["admit_ns"]),
        "ttft_ms": None if failed else _between(sched_ns, times[0]),
        "ttft_send_ms": None if failed else _between(request["send_ns"], times[0]),
        "tpot_ms": (times[-1] - times[0]) / NS_PER_MS / (len(times) - 1) if many else None,
        "e2e_ms": None if failed else _between(sched_ns, times[-1]),
        "norm_ms": None if failed else (times[-1] - sched_ns) / NS_PER_MS / len(times),
        "itl_ms": [(after - before) / NS_PER_MS for before, after in pairwise(times)],
    }


def _between(begin_ns: int | None, end_ns: int | None) -> float | None:
    return None if begin_ns is None or end_ns is None else (end_ns - begin_ns) / NS_PER_MS
