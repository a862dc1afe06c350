"""Runs the jobs of a build in children: the smallest first, as many as memory allows.

A child that gave way, or that the kernel killed beside others, is made again alone; only one that is
killed alone is told as lack of memory.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from neuronc.lower.admission import Admission, Demand

_POLL_S = 0.05
_BEAT_S = 0.5

Tell = Callable[[dict[str, object]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A program that waits.

    Attributes:
        name: Of the program.
        known_bytes: Memory that such a one took before; None if nothing is known.
        is_alone: It runs beside no other.
    """

    name: str
    known_bytes: int | None = None
    is_alone: bool = False


@dataclass(kw_only=True, slots=True)
class _Running:
    task: Task
    begin_s: float
    predicted_bytes: int
    observed_bytes: int = 0
    peak_bytes: int = 0
    gave_way: bool = False

    @property
    def demand(self) -> Demand:
        return Demand(predicted_bytes=self.predicted_bytes, observed_bytes=self.observed_bytes)


class Schedule:
    """The tasks of one build and the children that run."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        start: Callable[[str], int],
        admission: Admission,
        tell: Tell,
        own_bytes: Callable[[int], int] | None = None,
    ) -> None:
        """A schedule that has not begun.

        Args:
            tasks: In the order in which they begin.
            start: Starts the child of the program of that name and returns its pid.
            admission: Decides.
            tell: Given ``{"folder", "exit"}`` for every end, ``{"running", "waiting"}`` twice a
                second and ``{"note"}`` when a child gives way.
            own_bytes: Memory of a process that it shares with no other.
        """
        self.waiting, self.running = list(tasks), dict[int, _Running]()
        self.start, self.admission, self.tell = start, admission, tell
        self.own_bytes = own_bytes or unshared_bytes
        self.beaten_s = 0.0

    def run(self) -> None:
        """Run until every task has ended."""
        while self.waiting or self.running:
            self._start_what_may()
            self._reap()
            self._look()
            time.sleep(_POLL_S)

    def _start_what_may(self) -> None:
        while self.waiting:
            task = self.waiting[0]
            predicted = self.admission.predict(task.known_bytes)
            beside = [one.demand for one in self.running.values()]
            is_alone = task.is_alone or any(one.task.is_alone for one in self.running.values())
            if (beside and is_alone) or not self.admission.may_start(predicted, beside):
                return
            self.waiting.pop(0)
            pid = self.start(task.name)
            self.running[pid] = _Running(
                task=task, begin_s=time.monotonic(), predicted_bytes=predicted
            )

    def _reap(self) -> None:
        for pid in list(self.running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                num_beside = len(self.running) - 1
                self._end(self.running.pop(pid), os.waitstatus_to_exitcode(status), num_beside)

    def _end(self, one: _Running, code: int, num_beside: int) -> None:
        was_killed = code == -signal.SIGKILL and (one.gave_way or num_beside > 0)
        if was_killed and not one.task.is_alone:
            how = "gave way" if one.gave_way else "was killed"
            self.tell({"note": f"memory is short: {one.task.name} {how}, and is made alone later"})
            again = Task(name=one.task.name, known_bytes=one.peak_bytes or None, is_alone=True)
            self.waiting.append(again)
            return
        self.admission.ended(one.peak_bytes)
        self.tell({"folder": one.task.name, "exit": code})

    def _look(self) -> None:
        """Twice a second: measure the children, tell of them, and let one give way."""
        now_s = time.monotonic()
        if now_s - self.beaten_s < _BEAT_S:
            return
        self.beaten_s = now_s
        for pid, one in self.running.items():
            one.observed_bytes = self.own_bytes(pid)
            one.peak_bytes = max(one.peak_bytes, one.observed_bytes)
        told: Mapping[str, Any] = {
            one.task.name: [round(now_s - one.begin_s, 1), one.observed_bytes]
            for one in self.running.values()
        }
        self.tell({"running": told, "waiting": len(self.waiting)})
        if self.admission.is_short(len(self.running)):
            pid, youngest = max(self.running.items(), key=lambda item: item[1].begin_s)
            youngest.gave_way = True
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def unshared_bytes(pid: int) -> int:
    """Memory of a process that no other shares: what would be free without it. 0 if it is gone."""
    import psutil

    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().uss)
    return 0
