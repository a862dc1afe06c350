"""One JSON line per program call of the runs."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neuronc.bench.outputs.reading import (
    NS_PER_MS,
    Document,
    Labelled,
    is_invalid,
    labelled_timelines,
    step_ms,
    verdict,
)


def step_lines(document: Document, timelines: Iterable[Labelled] | None = None) -> Iterator[str]:
    """A line for each step in order; an invalid run gives one line that says so.

    Of the document's own timeline, or of ``timelines``, whose labels are in the lines.
    """
    if is_invalid(document):
        yield json.dumps({"status": "invalid", "verdict": verdict(document)})
        return
    for labels, timeline in labelled_timelines(document, timelines):
        head = {"status": document["status"], **labels}
        yield from (json.dumps({**head, **row}) for row in _rows(timeline))


def _rows(timeline: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    before_ns: int | None = None
    for step in timeline["steps"]:
        since_ns = None if before_ns is None else step["start_ns"] - before_ns
        before_ns = step["end_ns"]
        yield {
            "class": step["class"],
            "phase": step["phase"],
            "bucket": step["bucket"],
            "slots": step["slots"],
            "request_ids": step["request_ids"],
            "num_tokens": step["num_tokens"],
            "start_ms": step["start_ns"] / NS_PER_MS,
            "ms": step_ms(step),
            "since_last_ms": None if since_ns is None else since_ns / NS_PER_MS,
        }
    if timeline["truncated"]:
        yield {"note": f"only {len(timeline['steps'])} steps were kept"}
