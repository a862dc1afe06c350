"""One run of neuronx-cc: started, watched, and told in numbers."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.lower.memory_gate import Signal

CONSOLE_LOG = "console.txt"
_POLL_S = 0.05
_BEAT_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class CompilerRun:
    """How a run ended.

    Attributes:
        exit_code: Of the process; negative for a signal; None where it was stopped by us.
        wall_s: From start to end.
        peak_rss_bytes: Largest resident memory seen: of its first process at any time, or of the
            sum over all of them at a beat.
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
    stop: Signal,
    on_beat: Callable[[float, int], None],
) -> CompilerRun:
    """Run ``argv`` in ``folder`` until it ends, ``timeout_s`` are over, or ``stop`` is set.

    What it prints goes to ``console.txt``. Its process group is gone afterwards, and every process
    outside of it that was seen below it at a beat.

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
            while (elapsed_s := time.monotonic() - begin) < timeout_s and not stop.is_set():
                watch.look(elapsed_s)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
                    break
        finally:
            exit_code = process.returncode
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            watch.end_children()
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
        self.peak_rss_bytes, self.beaten_s = 0, -1.0
        self.children: set[Any] = set()

    def look(self, elapsed_s: float) -> None:
        self.peak_rss_bytes = max(self.peak_rss_bytes, _own_peak_bytes(self.process.pid))
        if elapsed_s - self.beaten_s >= _BEAT_S:
            self.beaten_s = elapsed_s
            rss_bytes = self._tree_rss_bytes()
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)
            self.on_beat(elapsed_s, rss_bytes)

    def end_children(self) -> None:
        """Kill what left the compiler's process group; psutil knows a reused number."""
        import psutil

        for child in self.children:
            with suppress(psutil.Error):
                child.kill()

    def _tree_rss_bytes(self) -> int:
        import psutil

        total = 0
        with suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            self.children.update(root.children(recursive=True))
            for process in (root, *self.children):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        return total


def _own_peak_bytes(pid: int) -> int:
    """``VmHWM``, which counts from the exec. getrusage would count from before: it is our own."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
