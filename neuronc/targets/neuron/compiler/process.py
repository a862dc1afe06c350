"""One run of neuronx-cc: started, watched, and told in numbers."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

CONSOLE_LOG = "console.txt"
_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerRun:
    """How a run ended.

    Attributes:
        exit_code: Of the process; negative for a signal; None where it was stopped by us.
        wall_s: From start to end.
        peak_rss_bytes: Largest resident memory: of any one of its processes, or seen in the sum
            over all of them.
    """

    exit_code: int | None
    wall_s: float
    peak_rss_bytes: int


def run_compiler(
    argv: Sequence[str],
    folder: Path,
    *,
    env: dict[str, str],
    timeout_s: float,
    stop: Event,
    on_beat: Callable[[float, int], None],
) -> CompilerRun:
    """Run ``argv`` in ``folder`` until it ends, ``timeout_s`` are over, or ``stop`` is set.

    What it prints goes to ``console.txt``. Every process it started is gone afterwards.

    Args:
        argv: The command; never a shell's.
        folder: A folder of its own: the compiler leaves files where it runs.
        env: The whole environment.
        timeout_s: Wall time it may take.
        stop: Set by whoever wants it to end.
        on_beat: Called twice a second with elapsed seconds and resident bytes of all its processes.
    """
    begin = time.monotonic()
    with (folder / CONSOLE_LOG).open("wb") as console:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watch = _Watch(process, on_beat)
        try:
            while not watch.ended and time.monotonic() - begin < timeout_s and not stop.is_set():
                time.sleep(_POLL_S)
                watch.look(time.monotonic() - begin)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            exit_code = process.returncode
            watch.reap()
    return CompilerRun(
        exit_code=exit_code,
        wall_s=time.monotonic() - begin,
        peak_rss_bytes=watch.peak_rss_bytes,
    )


class _Watch:
    """Looks at a process and all that it started."""

    def __init__(
        self, process: subprocess.Popen[bytes], on_beat: Callable[[float, int], None]
    ) -> None:
        self.process, self.on_beat = process, on_beat
        self.ended, self.peak_rss_bytes, self.beaten_s = False, 0, -1.0

    def look(self, elapsed_s: float) -> None:
        self._collect(os.WNOHANG)
        if elapsed_s - self.beaten_s >= 0.5 and not self.ended:
            self.beaten_s = elapsed_s
            rss_bytes = _tree_rss_bytes(self.process.pid)
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)
            self.on_beat(elapsed_s, rss_bytes)

    def reap(self) -> None:
        if not self.ended:
            self._collect(0)

    def _collect(self, options: int) -> None:
        # Not Popen.wait: only wait4 tells how much memory the process and its children took.
        pid, status, usage = os.wait4(self.process.pid, options)
        if pid:
            self.ended = True
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_rss_bytes = max(self.peak_rss_bytes, usage.ru_maxrss * 1024)


def _tree_rss_bytes(pid: int) -> int:
    import psutil

    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
