"""Engine processes: kept open between answers, timed beside the rest of the machine."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.benchmarks.peers.process import MARK
from tests.benchmarks.peers.venvs import last_line

PROCESS = Path(__file__).with_name("process.py")
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 1800
SETTLE_S = 0.3
"""Before an answer: other engines' threads spin for up to 0.2 s after theirs (OpenMP's of Intel)."""

_ENDS_S = 60  # for a process whose output ended
_LEAVE_OUT = ("OPENBLAS_CORETYPE", "XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What an engine process gave.

    Attributes:
        result: Its JSON; None if it failed.
        reason: Why it failed.
        others: Share of the machine's CPU time that went to other processes meanwhile.
    """

    result: Mapping[str, Any] | None
    reason: str = ""
    others: float = 0.0


class EngineProcess:
    """``engine`` in a process of its own, started when it is first asked, and again if it ended."""

    def __init__(self, python: Path, engine: Path, job: Mapping[str, Any]) -> None:
        self._python, self._engine, self._job = python, engine, job
        self._child: _Child | None = None

    def answer(self, *, settle_s: float = SETTLE_S) -> Outcome:
        """One answer; never raises for what the engine does."""
        try:
            child = self._open()
            time.sleep(settle_s)
            begin, busy, own = time.perf_counter(), _busy_s(), child.cpu_s()
            result = child.ask()
        except _FailedError as error:
            self.close()
            return Outcome(result=None, reason=str(error))
        elapsed = (time.perf_counter() - begin) * (os.cpu_count() or 1)
        others = ((_busy_s() - busy) - (child.cpu_s() - own)) / elapsed
        return Outcome(result=result, others=min(1.0, max(0.0, others)))  # clocks of 10 ms

    def close(self) -> None:
        """End the process, if it runs."""
        if self._child is not None:
            self._child.end()
        self._child = None

    def _open(self) -> "_Child":
        if self._child is None:
            self._child = _Child(self._python, self._engine, self._job)
            self._child.told()
        return self._child


def prepare_engine(python: Path, engine: Path, job: Mapping[str, Any]) -> str:
    """Convert the weights as ``job`` says; why it failed, empty if it did not."""
    try:
        child = _Child(python, engine, job)
        try:
            child.told()
        finally:
            child.end()
    except _FailedError as error:
        return str(error)
    return ""


class _FailedError(Exception):
    """An engine process that did not do what it was asked."""


class _Child:
    """A running ``process.py``."""

    def __init__(self, python: Path, engine: Path, job: Mapping[str, Any]) -> None:
        self._files = ExitStack()
        folder = Path(self._files.enter_context(tempfile.TemporaryDirectory()))
        (folder / "job.json").write_text(json.dumps(job))
        self._errors = folder / "errors.txt"
        command = [str(python), "-P", str(PROCESS), str(engine), str(folder / "job.json")]
        pipe = subprocess.PIPE
        try:
            with self._errors.open("w") as errors:
                self._process = subprocess.Popen(
                    command,
                    env=_environment(job),
                    stdin=pipe,
                    stdout=pipe,
                    stderr=errors,
                    errors="replace",
                    start_new_session=True,
                    text=True,
                )
        except OSError as error:
            self._files.close()
            message = f"{error.strerror}: {python}"
            raise _FailedError(message) from error
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        told = self._process.stdout
        threading.Thread(target=_read, args=(told, self._lines), daemon=True).start()

    def ask(self) -> Mapping[str, Any]:
        """An answer."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended: its last words are read below
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        return self.told()

    def told(self) -> Mapping[str, Any]:
        """What it tells next."""
        try:
            line = self._lines.get(timeout=TIMEOUT_S)
        except queue.Empty:
            message = f"no result after {TIMEOUT_S} s"
            raise _FailedError(message) from None
        if line is None:
            try:
                status = self._process.wait(timeout=_ENDS_S)
            except subprocess.TimeoutExpired:
                message = "it closed its output and goes on"
                raise _FailedError(message) from None
            errors = self._errors.read_text(errors="replace")
            message = f"exit status {status}: {last_line(errors)}"
            raise _FailedError(message)
        try:
            found: Mapping[str, Any] = json.loads(line)
        except ValueError as error:
            message = f"what it tells is not JSON: {error}"
            raise _FailedError(message) from error
        return found

    def cpu_s(self) -> float:
        """CPU time that it took so far."""
        try:
            used = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(used.user + used.system)

    def end(self) -> None:
        """Kill it and forget its files."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its compilers' processes as well
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):  # what it did not read any more
                self._process.stdin.close()
        self._files.close()


def _read(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    """What is told, line by line, then None."""
    try:
        with stream:
            for line in stream:
                if line.startswith(MARK):
                    lines.put(line.removeprefix(MARK))
    finally:
        lines.put(None)


def _environment(job: Mapping[str, Any]) -> dict[str, str]:
    """The caller's, without what would tune some engines and not the others."""
    kept = {name: value for name, value in os.environ.items() if name not in _LEAVE_OUT}
    cpus = job.get("cpus")
    own = cpus == []  # no CPUs are named where the engine is to choose
    threads = {} if own else {"OMP_NUM_THREADS": str(len(cpus or ()) or os.cpu_count())}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**kept, **offline, **threads, "PYTHONPATH": str(ROOT)}


def _busy_s() -> float:
    """CPU time that the machine spent on anything, or that was stolen from it."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
