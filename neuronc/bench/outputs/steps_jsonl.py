"""One JSON line per program call of the document's timeline."""

import json
from collections.abc import Iterator

from neuronc.bench.outputs.reading import NS_PER_MS, Document, is_invalid, step_ms, verdict


def step_lines(document: Document) -> Iterator[str]:
    """A line for each step in order; an invalid run gives one line that says so."""
    if is_invalid(document):
        yield json.dumps({"status": "invalid", "verdict": verdict(document)})
        return
    timeline = document["timeline"] or {"steps": (), "truncated": False}
    before_ns: int | None = None
    for step in timeline["steps"]:
        since_ns = None if before_ns is None else step["start_ns"] - before_ns
        before_ns = step["end_ns"]
        row = {
            "status": document["status"],
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
        yield json.dumps(row)
    if timeline["truncated"]:
        kept = len(timeline["steps"])
        yield json.dumps({"status": document["status"], "note": f"only {kept} steps were kept"})
