"""The admission of `neuronc.lower.admission` for threads that each watch a process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from neuronc.lower.admission import Admission, Demand

_POLL_S = 0.2


class Signal(Protocol):
    """What `threading.Event` is asked."""

    def is_set(self) -> bool:
        """Whether it happened."""


@dataclass(kw_only=True, slots=True, eq=False)
class Turn:
    """One process's time in a gate.

    Attributes:
        number: Turns are numbered as they begin: the largest is the youngest.
        demand: What it needs.
        peak_bytes: The most it held.
        is_alone: No other runs beside it.
        gives_way: Set when it has to end, to be tried again alone.
    """

    number: int
    demand: Demand
    peak_bytes: int = 0
    is_alone: bool = False
    gives_way: threading.Event = field(default_factory=threading.Event)


class MemoryGate:
    """Lets threads in, one process each, as memory allows."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.changed = threading.Condition()
        self.turns: list[Turn] = []
        self.numbers = count()

    @contextmanager
    def turn(
        self, *, known_bytes: int | None, is_alone: bool, stop: Signal, tell: Callable[[], None]
    ) -> Iterator[Turn | None]:
        """Wait until the memory is there; None if ``stop`` was set meanwhile.

        Args:
            known_bytes: Memory that such a process took before, if that is known.
            is_alone: It is to run beside no other.
            stop: Set when everything is to end.
            tell: Called once if it has to wait.
        """
        turn = self._enter(known_bytes, is_alone=is_alone, stop=stop, tell=tell)
        try:
            yield turn
        finally:
            with self.changed:
                if turn is not None:
                    self.turns.remove(turn)
                    self.admission.ended(turn.peak_bytes)
                self.changed.notify_all()

    def observe(self, turn: Turn, held_bytes: int) -> None:
        """Take note of what the process of ``turn`` holds; the youngest gives way if memory is short."""
        with self.changed:
            turn.demand = Demand(
                predicted_bytes=turn.demand.predicted_bytes, observed_bytes=held_bytes
            )
            turn.peak_bytes = max(turn.peak_bytes, held_bytes)
            if any(other.gives_way.is_set() for other in self.turns):
                return  # one at a time: what it held is not free yet
            if self.admission.is_short(len(self.turns)):
                max(self.turns, key=lambda other: other.number).gives_way.set()

    def _enter(
        self, known_bytes: int | None, *, is_alone: bool, stop: Signal, tell: Callable[[], None]
    ) -> Turn | None:
        told = False
        with self.changed:
            while not stop.is_set():
                predicted = self.admission.predict(known_bytes)
                if self._may_enter(predicted, is_alone=is_alone):
                    turn = Turn(
                        number=next(self.numbers),
                        demand=Demand(predicted_bytes=predicted, observed_bytes=0),
                        is_alone=is_alone,
                    )
                    self.turns.append(turn)
                    return turn
                if not told:
                    told = True
                    tell()
                self.changed.wait(_POLL_S)
        return None

    def _may_enter(self, predicted_bytes: int, *, is_alone: bool) -> bool:
        if self.turns and (is_alone or any(turn.is_alone for turn in self.turns)):
            return False
        return self.admission.may_start(predicted_bytes, [turn.demand for turn in self.turns])
