"""The slots of a run as Chrome trace events, which ui.perfetto.dev and chrome://tracing open.

Times are microseconds since the begin of the run. One track per slot, one for the programs, one
for arrivals with the wait for a slot, and a counter of busy slots.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from neuronc.bench.outputs.reading import Document, Json, verdict

NS_PER_US = 1000
SLOTS, PROGRAMS, REQUESTS = 1, 2, 3  # process ids, in the order they are shown


def trace(document: Document) -> Json:
    """The trace as one JSON object; without a timeline it has only its metadata."""
    timeline = document["timeline"] or {"batch_size": 0, "steps": (), "requests": ()}
    events = [*_names(document, timeline), *_slices(timeline), *_arrivals(timeline)]
    about = {"schema": document["schema"], "status": document["status"]}
    about |= {"verdict": verdict(document) or "no doubt found", "headline": document["headline"]}
    return {"displayTimeUnit": "ms", "otherData": about, "traceEvents": events}


def _names(document: Document, timeline: Mapping[str, Any]) -> Iterator[Json]:
    mark = {"ok": "", "noisy": " (NOISY RUN)", "invalid": " (INVALID RUN)"}[document["status"]]
    for order, (pid, name) in enumerate(
        ((SLOTS, "slots"), (PROGRAMS, "programs"), (REQUESTS, "requests"))
    ):
        yield _metadata("process_name", pid, 0, {"name": f"{name}{mark}"})
        yield _metadata("process_sort_index", pid, 0, {"sort_index": order})
    for slot in range(timeline["batch_size"]):
        yield _metadata("thread_name", SLOTS, slot + 1, {"name": f"slot {slot}"})
        yield _metadata("thread_sort_index", SLOTS, slot + 1, {"sort_index": slot})
    yield _metadata("thread_name", PROGRAMS, 1, {"name": "program calls"})
    yield _metadata("thread_name", REQUESTS, 1, {"name": "arrivals"})


def _slices(timeline: Mapping[str, Any]) -> Iterator[Json]:
    for step in timeline["steps"]:
        begin, span = _us(step["start_ns"]), _us(step["end_ns"] - step["start_ns"])
        busy = len(step["slots"])
        args = {"bucket": step["bucket"], "tokens": step["num_tokens"], "active_slots": busy}
        if step["phase"] == "prefill":
            args["padding"] = step["bucket"] - step["num_tokens"]
        timed = {"ph": "X", "cat": step["phase"], "ts": begin, "dur": span}
        yield {"name": step["class"], "pid": PROGRAMS, "tid": 1, **timed, "args": args}
        for slot, request in zip(step["slots"], step["request_ids"], strict=True):
            named = {"name": f"{request} {step['class']}", "pid": SLOTS, "tid": slot + 1}
            yield {**named, **timed, "args": {"request": request, **args}}
        yield _busy(begin, busy)
        yield _busy(begin + span, 0)


def _busy(at_us: float, count: int) -> Json:
    base = {"name": "slots in the step", "ph": "C", "pid": PROGRAMS, "tid": 0, "ts": at_us}
    return base | {"args": {"slots": count}}


def _arrivals(timeline: Mapping[str, Any]) -> Iterator[Json]:
    for request in timeline["requests"]:
        name, at_us = request["request_id"], _us(request["sched_ns"])
        place = {"pid": REQUESTS, "tid": 1, "cat": "request"}
        args = {"prompt_tokens": request["prompt_tokens"], "finish": request["finish"]}
        arrived = {"name": f"{name} arrives", "ph": "i", "s": "t", "ts": at_us}
        yield {**arrived, **place, "args": {**args, "error": request["error"] or ""}}
        if request["admit_ns"] is None:
            continue
        waited = {"name": f"{name} waits for a slot", "id": name, **place}
        yield {**waited, "ph": "b", "ts": at_us, "args": args}
        yield {**waited, "ph": "e", "ts": _us(request["admit_ns"]), "args": {}}


def _metadata(name: str, pid: int, tid: int, args: Json) -> Json:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": args}


def _us(ns: int) -> float:
    return ns / NS_PER_US
