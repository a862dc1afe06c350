"""A simulated engine with slots and buckets: timelines for example documents, no model needed."""

import random
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

PREFILL_BUCKETS = (32, 128, 512)
DECODE_BUCKETS = (256, 512)
NS_PER_MS = 1_000_000
HOST_GAP_MS = 0.12

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What arrives: ``rate`` per second (open loop) or ``concurrency`` at a time (closed)."""

    num_requests: int = 40
    rate: float | None = None
    concurrency: int | None = None
    prompt_tokens: tuple[int, int] = (16, 300)
    new_tokens: tuple[int, int] = (24, 96)
    failing: float = 0.0
    spike: float = 0.004


@dataclass
class _Simulation:
    load: Load
    random: random.Random
    batch_size: int
    slow_down: float
    now_ns: int = 0
    steps: list[Json] = field(default_factory=list)
    requests: list[Json] = field(default_factory=list)


def simulate(
    load: Load, *, seed: int, arrivals: int = 1, batch_size: int = 4, slow_down: float = 1.0
) -> Json:
    """A Timeline of the document: prefill first, one prompt at a time, decode all slots at once."""
    run = _Simulation(load, random.Random(seed), batch_size, slow_down)
    run.requests = _arrivals(load, random.Random(arrivals))
    waiting = deque(range(len(run.requests)))
    slots: list[int | None] = [None] * batch_size
    limit = min(load.concurrency or batch_size, batch_size)
    while waiting or any(slot is not None for slot in slots):
        busy = sum(slot is not None for slot in slots)
        arrived = bool(waiting) and run.requests[waiting[0]]["sched_ns"] <= run.now_ns
        if arrived and busy < limit:
            _prefill(run, waiting.popleft(), slots)
        elif busy:
            _decode(run, slots)
        else:
            run.now_ns = run.requests[waiting[0]]["sched_ns"]
        if load.rate is None and waiting:  # a closed loop sends when one comes back
            head = run.requests[waiting[0]]
            head["sched_ns"] = head["send_ns"] = max(head["sched_ns"], _free_at(run, slots, limit))
    return {
        "batch_size": batch_size,
        "begin_ns": 0,
        "steps": run.steps[:4000],
        "requests": run.requests,
        "truncated": len(run.steps) > 4000,
    }


def _free_at(run: _Simulation, slots: list[int | None], limit: int) -> int:
    return run.now_ns if sum(slot is not None for slot in slots) < limit else run.now_ns + 1


def _arrivals(load: Load, stream: random.Random) -> list[Json]:
    at_s, requests = 0.0, []
    for index in range(load.num_requests):
        at_ns = int(at_s * 1e9)
        requests.append(
            {
                "request_id": f"r{index}",
                "prompt_tokens": stream.randint(*load.prompt_tokens),
                "new_tokens": stream.randint(*load.new_tokens),
                "sched_ns": at_ns,
                "send_ns": at_ns + stream.randint(2_000, 60_000),
                "admit_ns": None,
                "token_times_ns": [],
                "finish": "failed" if stream.random() < load.failing else "length",
                "error": None,
            }
        )
        at_s += stream.expovariate(load.rate) if load.rate else 0.0
    return requests


def _prefill(run: _Simulation, index: int, slots: list[int | None]) -> None:
    request = run.requests[index]
    request["send_ns"] = min(request["send_ns"], run.now_ns)
    request["admit_ns"] = run.now_ns
    slot = slots.index(None)
    slots[slot] = index
    bucket = next(b for b in PREFILL_BUCKETS if b >= request["prompt_tokens"])
    _step(run, "prefill", bucket, [slot], [index], request["prompt_tokens"], 5 + 0.28 * bucket)
    _token(run, index, slots)


def _decode(run: _Simulation, slots: list[int | None]) -> None:
    busy = [(slot, index) for slot, index in enumerate(slots) if index is not None]
    longest = max(
        run.requests[i]["prompt_tokens"] + len(run.requests[i]["token_times_ns"]) for _, i in busy
    )
    bucket = next(b for b in DECODE_BUCKETS if b >= longest)
    ms = 12.5 + 0.004 * bucket + 0.3 * len(busy)
    _step(run, "decode", bucket, [s for s, _ in busy], [i for _, i in busy], len(busy), ms)
    for _, index in busy:
        _token(run, index, slots)


def _step(
    run: _Simulation,
    phase: str,
    bucket: int,
    slots: list[int],
    indices: list[int],
    num_tokens: int,
    ms: float,
) -> None:
    ms *= run.slow_down * run.random.lognormvariate(0, 0.02)
    if run.random.random() < run.load.spike:
        ms *= run.random.uniform(1.6, 4)
    start_ns = run.now_ns + int(HOST_GAP_MS * run.random.lognormvariate(0, 0.3) * NS_PER_MS)
    run.now_ns = start_ns + int(ms * NS_PER_MS)
    ids = [run.requests[index]["request_id"] for index in indices]
    run.steps.append(
        {
            "class": f"{phase}/{bucket}",
            "phase": phase,
            "bucket": bucket,
            "slots": slots,
            "request_ids": ids,
            "num_tokens": num_tokens,
            "start_ns": start_ns,
            "end_ns": run.now_ns,
        }
    )


def _token(run: _Simulation, index: int, slots: list[int | None]) -> None:
    request = run.requests[index]
    request["token_times_ns"].append(run.now_ns)
    done = len(request["token_times_ns"])
    if request["finish"] == "failed" and done == 5:
        request["error"] = "logits hold NaN at token 5"
    if done == request["new_tokens"] or request["error"]:
        slots[slots.index(index)] = None


def gaps_ms(request: Json) -> list[float]:
    """Every gap between its tokens."""
    return [(b - a) / NS_PER_MS for a, b in pairwise(request["token_times_ns"])]
