"""One builder per key: who comes second waits, and finds the entry.

Entries are safe without this; a lock saves doing the same work twice. It is the kernel's (flock):
whoever dies gives it up, so none is ever stale. On file systems without such locks `filelock` keeps
the owner in the file and takes over from a process that is gone.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neuronc.cache.key import Key

LOCKS = "locks"
"""Folder of the locks, below a store's root."""

_POLL_S = 0.2


@contextmanager
def key_lock(
    root: Path, key: Key, *, tell: Callable[[str], None] = lambda _: None
) -> Iterator[None]:
    """Hold the lock of ``key`` in the store at ``root``; where that cannot be written, none.

    Args:
        root: Of the store.
        key: Whose lock.
        tell: Called once, with whom we wait for, if somebody holds it.
    """
    import filelock

    folder = root / LOCKS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{key.digest}.lock", thread_local=False)
        owner = folder / f"{key.digest}.owner"
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            tell(f"waiting for {_owner_in(owner)}, which makes the same")
            lock.acquire(poll_interval=_POLL_S)
    except (OSError, NotImplementedError):
        yield
        return
    try:
        with suppress(OSError):
            told = {"pid": os.getpid(), "host": socket.gethostname()}
            owner.write_text(json.dumps(told), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


@contextmanager
def if_free(lock_file: Path) -> Iterator[bool]:
    """Whether nobody holds ``lock_file``; inside, nobody takes it."""
    import filelock

    if not lock_file.is_file():
        yield True
        return
    lock = filelock.FileLock(lock_file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except (OSError, NotImplementedError):  # held, or not ours to take
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _owner_in(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8")[:1000])
        return f"process {int(told['pid'])} on {str(told['host'])[:80]!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
