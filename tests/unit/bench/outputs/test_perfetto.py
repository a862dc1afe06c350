"""Against the Trace Event Format that Perfetto and chrome://tracing read, event by event."""

import json
from collections import defaultdict
from typing import Any

import pytest

from neuronc.bench.outputs.perfetto import PROGRAMS, REQUESTS, SLOTS, trace
from tests.bench_examples.documents import EXAMPLES, example

KEYS = {
    "M": {"name", "ph", "pid", "tid", "args"},
    "X": {"name", "ph", "pid", "tid", "cat", "ts", "dur", "args"},
    "C": {"name", "ph", "pid", "tid", "ts", "args"},
    "i": {"name", "ph", "pid", "tid", "cat", "ts", "s", "args"},
    "b": {"name", "ph", "pid", "tid", "cat", "ts", "id", "args"},
    "e": {"name", "ph", "pid", "tid", "cat", "ts", "id", "args"},
}
METADATA = {
    "process_name": str,
    "thread_name": str,
    "process_sort_index": int,
    "thread_sort_index": int,
}
Event = dict[str, Any]


def check_event(event: Event) -> None:
    assert set(event) == KEYS[event["ph"]]
    assert isinstance(event["name"], str)
    assert event["name"]
    assert isinstance(event["pid"], int)
    assert isinstance(event["tid"], int)
    assert isinstance(event["args"], dict)
    if event["ph"] == "M":
        (value,) = event["args"].values()
        assert isinstance(value, METADATA[event["name"]])
        return
    assert isinstance(event["ts"], int | float)
    assert event["ts"] >= 0
    if event["ph"] == "X":
        assert event["dur"] >= 0
    if event["ph"] == "C":
        assert event["args"]
        assert all(isinstance(value, int | float) for value in event["args"].values())
    if event["ph"] == "i":
        assert event["s"] in {"t", "p", "g"}


def by_track(events: list[Event], phase: str) -> dict[tuple[int, int], list[Event]]:
    tracks: defaultdict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] == phase:
            tracks[event["pid"], event["tid"]].append(event)
    return dict(tracks)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_event_is_of_the_format(name: str) -> None:
    document = example(name)
    made = json.loads(json.dumps(trace(document), allow_nan=False))
    assert made["displayTimeUnit"] == "ms"
    assert made["otherData"]["status"] == document["status"]
    for event in made["traceEvents"]:
        check_event(event)


def test_slices_of_a_track_never_overlap_and_every_track_has_a_name() -> None:
    events = trace(example("serve"))["traceEvents"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    tracks = by_track(events, "X")
    assert tracks.keys() <= named
    assert {pid for pid, _ in tracks} == {SLOTS, PROGRAMS}
    for slices in tracks.values():
        ends = [0.0, *(s["ts"] + s["dur"] for s in slices)]
        # times are floats of whole nanoseconds, so sums are good to far below one of them
        assert all(s["ts"] >= end - 1e-4 for s, end in zip(slices, ends, strict=False))


def test_waits_begin_and_end_in_pairs() -> None:
    begun: dict[str, float] = {}
    for event in trace(example("serve"))["traceEvents"]:
        if event["ph"] == "b":
            assert event["id"] not in begun
            begun[event["id"]] = event["ts"]
        if event["ph"] == "e":
            assert event["ts"] >= begun.pop(event["id"])
    assert begun == {}


def test_a_slot_shows_request_and_bucket_and_the_counter_falls_back_to_zero() -> None:
    document = example("decoder")
    step = document["timeline"]["steps"][0]
    events = trace(document)["traceEvents"]
    first = next(e for e in events if e["ph"] == "X" and e["pid"] == SLOTS)
    assert first["name"] == f"{step['request_ids'][0]} {step['class']}"
    assert first["ts"] == step["start_ns"] / 1000
    assert first["args"]["padding"] == step["bucket"] - step["num_tokens"]
    counts = [e["args"]["slots"] for e in events if e["ph"] == "C"]
    assert max(counts) == document["timeline"]["batch_size"]
    assert counts[-1] == 0


def test_every_request_arrives() -> None:
    document = example("serve")
    events = trace(document)["traceEvents"]
    arrivals = [e for e in events if e["ph"] == "i" and e["pid"] == REQUESTS]
    assert len(arrivals) == len(document["timeline"]["requests"])


@pytest.mark.parametrize(("name", "mark"), [("noisy", "NOISY RUN"), ("invalid", "INVALID RUN")])
def test_a_doubtful_run_says_so_on_its_tracks(name: str, mark: str) -> None:
    made = trace(example(name))
    names = [e["args"]["name"] for e in made["traceEvents"] if e["name"] == "process_name"]
    assert all(mark in text for text in names)
    assert mark in made["otherData"]["verdict"]


def test_without_a_timeline_there_are_only_names() -> None:
    assert {e["ph"] for e in trace(example("few"))["traceEvents"]} == {"M"}
