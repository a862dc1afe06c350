"""Draws `neuronc.progress.Progress` on stderr: bars on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from neuronc.progress import SILENT, Progress, Stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LINE_INTERVAL_S = 2.0
_LINE_FRACTION = 0.1
_HEARTBEAT_S = 15.0


def make_progress(quiet: bool) -> Progress:
    """Bars when stderr is a terminal, plain lines when it is not, nothing when ``quiet``."""
    if quiet:
        return SILENT
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        return BarProgress(Console(file=sys.stderr, emoji=False))
    return LineProgress(sys.stderr)


def describe_amount(done: float, total: float | None, unit: str) -> str:
    """``12 of 272 tensors``; bytes are shown in MB."""
    if unit == "bytes":
        done, unit = done / 1e6, "MB"
        total = None if total is None else total / 1e6
    decimals = 1 if unit == "MB" else 0
    of_total = "" if total is None else f" of {total:,.{decimals}f}"
    return f"{done:,.{decimals}f}{of_total} {unit}".rstrip()


def describe_pace(done: float, total: float | None, unit: str, elapsed_s: float) -> str:
    """``, 412 MB/s, 12 s left`` for bytes; nothing for what is not even, as programs."""
    if unit != "bytes" or done <= 0 or elapsed_s <= 0:
        return ""
    rate = done / elapsed_s
    left = "" if total is None else f", {max(0.0, total - done) / rate:.0f} s left"
    return f", {rate / 1e6:.0f} MB/s{left}"


class LineProgress:
    """One line when a stage begins, few while it runs, one with the elapsed time when it ends.

    Work that reports without moving on, as a compiler that runs for an hour, is shown now and then.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    @contextmanager
    def stage(
        self,
        title: str,
        *,
        total: float | None = None,
        unit: str = "",
        still: bool = False,  # noqa: ARG002  lines are few enough
    ) -> Iterator[Stage]:
        """A stage that reports in lines; safe to use from several threads."""
        started_s = self._clock()
        self._write(f"{title} ...")
        outcome = "stopped after"
        try:
            yield _LineStage(self._write, self._clock, title, total, unit)
            outcome = "done in"
        finally:
            self._write(f"{title}: {outcome} {self._clock() - started_s:.1f} s")

    def _write(self, line: str) -> None:
        # Work must not die because whoever watched it left.
        with self._lock, contextlib.suppress(OSError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


class _LineStage:
    def __init__(
        self,
        write: Callable[[str], None],
        clock: Callable[[], float],
        title: str,
        total: float | None,
        unit: str,
    ) -> None:
        self._write, self._clock = write, clock
        self._title, self._total, self._unit = title, total, unit
        self._lock = threading.Lock()
        self._done = self._shown = 0.0
        self._started_s = self._shown_s = clock()

    def advance(self, amount: float = 1, note: str = "") -> None:
        with self._lock:
            self._done += amount
            now_s = self._clock()
            if not self._is_due(now_s):
                return
            self._shown, self._shown_s = self._done, now_s
            done = describe_amount(self._done, self._total, self._unit)
            done += describe_pace(self._done, self._total, self._unit, now_s - self._started_s)
        extra = f", {note}" if note else ""
        self._write(f"{self._title}: {done}{extra} ({now_s - self._started_s:.0f} s)")

    def _is_due(self, now_s: float) -> bool:
        step = 0.0 if self._total is None else self._total * _LINE_FRACTION
        moved, waited_s = self._done - self._shown, now_s - self._shown_s
        return waited_s >= (_HEARTBEAT_S if moved == 0 else _LINE_INTERVAL_S) and (
            moved == 0 or moved >= step
        )


class BarProgress:
    """One row per open stage; a finished one leaves a single line with its elapsed time."""

    def __init__(self, console: "Console", clock: Callable[[], float] = time.monotonic) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            refresh_per_second=5,
            # stdout carries the answer, and libraries keep hold of the real stderr.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._clock = clock
        self._lock = threading.Lock()
        self._num_open = 0

    @contextmanager
    def stage(
        self, title: str, *, total: float | None = None, unit: str = "", still: bool = False
    ) -> Iterator[Stage]:
        """A stage with a row of its own; safe to use from several threads."""
        started_s = self._clock()
        task = self._open(title, total, unit, still=still)
        mark = "✗"
        try:
            yield _BarStage(self._bars, self._clock, task, total, unit)
            mark = "✓"
        finally:
            self._close(task, f"{mark} {title}  {self._clock() - started_s:.1f} s")

    def _open(self, title: str, total: float | None, unit: str, *, still: bool) -> "TaskID":
        with self._lock:
            if self._num_open == 0:
                self._bars.live.auto_refresh = not still
            amount = "" if total is None else describe_amount(0, total, unit)
            task = self._bars.add_task(title, total=total, amount=amount)
            if self._num_open == 0:
                self._bars.start()
            self._num_open += 1
            return task

    def _close(self, task: "TaskID", line: str) -> None:
        with self._lock:
            self._bars.remove_task(task)
            self._num_open -= 1
            if self._num_open == 0:
                self._bars.stop()
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _BarStage:
    def __init__(
        self,
        bars: "Bars",
        clock: Callable[[], float],
        task: "TaskID",
        total: float | None,
        unit: str,
    ) -> None:
        self._bars, self._clock, self._task = bars, clock, task
        self._total, self._unit = total, unit
        self._done, self._started_s = 0.0, clock()
        self._lock = threading.Lock()

    def advance(self, amount: float = 1, note: str = "") -> None:
        with self._lock:
            self._done += amount
            shown = describe_amount(self._done, self._total, self._unit)
            elapsed_s = self._clock() - self._started_s
            shown += describe_pace(self._done, self._total, self._unit, elapsed_s)
            shown = f"{shown}  {note}" if note else shown
            self._bars.update(self._task, completed=self._done, amount=shown)
            if not self._bars.live.auto_refresh:
                self._bars.refresh()
