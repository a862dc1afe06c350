"""Notes every step of a run, and what the system did meanwhile; nothing is computed here."""

import gc
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from neuronc.bench.engine_protocol import StepLike
from neuronc.bench.timeline import RequestRecord, Timeline, Usage


class Recorder:
    """Called by the engine after every step: two list appends and one system call (1 to 2 us)."""

    def __init__(self) -> None:
        self._steps: list[StepLike] = []
        self._usage: list[Any] = []
        self._idle_before: set[int] = set()
        self._collections_ns: list[tuple[int, int]] = []
        self._collecting_ns = 0

    def __call__(self, step: StepLike) -> None:
        self._steps.append(step)
        self._usage.append(resource.getrusage(resource.RUSAGE_SELF))

    def note_idle(self) -> None:
        """The next step comes after a wait for an arrival."""
        self._idle_before.add(len(self._steps))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Notes garbage collections; none begins by itself, and what is alive is not looked at."""
        was_enabled = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        gc.callbacks.append(self._note_collection)
        self._usage.append(resource.getrusage(resource.RUSAGE_SELF))
        try:
            yield
        finally:
            gc.callbacks.remove(self._note_collection)
            gc.unfreeze()
            if was_enabled:
                gc.enable()

    def timeline(
        self,
        *,
        batch_size: int,
        begin_ns: int,
        end_ns: int,
        requests: tuple[RequestRecord, ...],
    ) -> Timeline:
        """All that was noted, with what came of the requests."""
        return Timeline(
            batch_size=batch_size,
            begin_ns=begin_ns,
            end_ns=end_ns,
            requests=requests,
            steps=tuple(self._steps),
            usage=tuple(_usage(counted) for counted in self._usage),
            collections_ns=tuple(self._collections_ns),
            idle_before=frozenset(self._idle_before),
        )

    def _note_collection(self, phase: str, _info: Mapping[str, int]) -> None:
        now_ns = time.perf_counter_ns()
        if phase == "start":
            self._collecting_ns = now_ns
        else:
            self._collections_ns.append((self._collecting_ns, now_ns))


def _usage(counted: resource.struct_rusage) -> Usage:
    return Usage(
        minor_faults=counted.ru_minflt,
        major_faults=counted.ru_majflt,
        involuntary_switches=counted.ru_nivcsw,
    )
