"""One program at a time, without an engine: full prefill buckets, decode at places of its context."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from neuronc.bench.engine_protocol import Phase, SessionLike
from neuronc.bench.workload.streams import named_stream

WARM_WITHIN, WARM_CALLS, MOST_WARM_CALLS = 0.1, 3, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A program and what is asked of it.

    Attributes:
        active_slots: Slots with a sequence; 1 for prefill, which takes one.
        context: Tokens that each sequence has afterwards.
        tokens: Processed for requests in one call.
    """

    phase: Phase
    bucket: int
    active_slots: int
    context: int
    tokens: int

    @property
    def step_class(self) -> str:
        """As `neuronc.bench.metrics.step_class`."""
        return f"{self.phase}/{self.bucket}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Warmth:
    """How warming up went: milliseconds of every call of each class, the first one first."""

    calls_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def first_call_ms(self) -> dict[str, float]:
        """The first call of each class, which may load or page in what the program needs."""
        return {name: calls[0] for name, calls in self.calls_ms.items()}

    def step_ms(self, phase: Phase, bucket: int) -> float:
        """What a warm call of the class takes, for planning."""
        return min(self.calls_ms[f"{phase}/{bucket}"][1:])


def list_cells(session: SessionLike) -> tuple[Cell, ...]:
    """Every prefill bucket, then every decode bucket with one, half and all slots in use."""
    prefill = [
        Cell(phase="prefill", bucket=bucket, active_slots=1, context=bucket, tokens=bucket)
        for bucket in session.prefill_buckets
    ]
    slots = sorted({1, max(1, session.batch_size // 2), session.batch_size})
    decode = [
        Cell(phase="decode", bucket=bucket, active_slots=active, context=bucket, tokens=active)
        for bucket in session.decode_buckets
        for active in slots
    ]
    return (*prefill, *decode)


def cells_of_contexts(session: SessionLike) -> tuple[Cell, ...]:
    """The programs at other places than `list_cells`: prefill later in a slot, decode before its end.

    A compiled program does the same work at each place; whether it takes the same time is measured.
    Decode with all slots, at the first position that its bucket is chosen for, and halfway.
    """
    made = []
    for bucket in session.prefill_buckets:
        last = session.max_length - bucket
        made += [
            Cell(phase="prefill", bucket=bucket, active_slots=1, context=at + bucket, tokens=bucket)
            for at in sorted({last // 2, last} - {0})
        ]
    for before, bucket in pairwise((0, *session.decode_buckets)):
        made += [
            Cell(
                phase="decode",
                bucket=bucket,
                active_slots=session.batch_size,
                context=context,
                tokens=session.batch_size,
            )
            for context in sorted({before + 1, (before + 1 + bucket) // 2} - {bucket})
        ]
    return tuple(made)


def in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Prefill, then decode; by bucket, slots and context."""
    return tuple(
        sorted(cells, key=lambda c: (c.phase != "prefill", c.bucket, c.active_slots, c.context))
    )


def call_ms(session: SessionLike, cell: Cell, allowed: np.ndarray) -> float:
    """Run ``cell`` once with random tokens of ``allowed``; milliseconds until its result is here.

    That is the tokens where the artifact samples on the device, as in greedy runs, else the logits.
    """
    rng = named_stream(cell.active_slots, cell.step_class)
    if cell.phase == "prefill":
        token_ids = rng.choice(allowed, size=cell.bucket).tolist()
        run_prefill = session.prefill_token if session.samples_on_device else session.prefill
        begin_ns = time.perf_counter_ns()
        run_prefill(0, token_ids, start=cell.context - cell.tokens)
    else:
        tokens = np.zeros(session.batch_size, dtype=np.int32)
        positions = np.zeros(session.batch_size, dtype=np.int32)
        tokens[: cell.active_slots] = rng.choice(allowed, size=cell.active_slots)
        positions[: cell.active_slots] = cell.context - 1
        run_decode = session.decode_tokens if session.samples_on_device else session.decode
        begin_ns = time.perf_counter_ns()
        run_decode(tokens, positions, bucket=cell.bucket)
    return (time.perf_counter_ns() - begin_ns) / 1e6


def warm_up(session: SessionLike, allowed: np.ndarray) -> Warmth:
    """Call every program until three calls are within a tenth of each other, or ten times."""
    warmth: dict[str, list[float]] = {}
    classes = {cell.step_class: cell for cell in list_cells(session)}  # decode: with all slots
    for name, cell in classes.items():
        calls = warmth.setdefault(name, [])
        while not _is_warm(calls):
            calls.append(call_ms(session, cell, allowed))
    return Warmth(calls_ms=warmth)


def _is_warm(calls: Sequence[float]) -> bool:
    last = calls[-WARM_CALLS:]
    steady = len(last) == WARM_CALLS and max(last) - min(last) <= WARM_WITHIN * min(last)
    return steady or len(calls) >= MOST_WARM_CALLS
