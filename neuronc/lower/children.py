"""Processes of the worker: forked where that is safe, and gone when their parent is."""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

PARENT = "NEURONC_PARENT_PID"
"""Environment variable: the process without which a worker has nothing to live for."""
_PR_SET_PDEATHSIG = 1


def start_child(run: Callable[[], int], command: Sequence[str], log: Path) -> int:
    """Start ``run`` in a forked child and return its pid; its stderr goes to ``log``.

    A thread that holds a lock while its process forks leaves the child waiting for ever. Where a
    library has started threads, ``command`` does the same in a process that begins anew.
    """
    if num_threads() == 1:
        return _fork(run, log)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    environment = {**os.environ, PARENT: str(os.getpid())}
    actions = [(os.POSIX_SPAWN_OPEN, 2, str(log), flags, 0o644)]
    return os.posix_spawn(command[0], [*command], environment, file_actions=actions)


def num_threads() -> int:
    """Of this process, those of libraries included."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 (no path is wanted)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, which started it, ends in any way."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before
        os._exit(1)


def _fork(run: Callable[[], int], log: Path) -> int:
    own = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_with(own)
        with log.open("wb") as stream:
            os.dup2(stream.fileno(), 2)
        code = run()
    except BaseException:  # noqa: BLE001 (the child must not run the parent's code)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
