"""Hashing and writing side by side, while the next block is read.

Work for one lane is done in the order in which it came, as a stream needs it; different lanes run
at the same time, on whichever thread is free. hashlib and file writes release the interpreter lock.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

MIN_BUDGET_BYTES = 4 << 20

_WAITING_THREADS = 2
"""Beside one for each core: a thread that writes waits for the disk most of the time."""

_Work = Callable[[], object]


class Lanes:
    """A few threads with a bound on what waits for them.

    Attributes:
        budget_bytes: `submit` waits while more than this is handed over and not yet done.
    """

    def __init__(self, *, budget_bytes: int, num_threads: int | None = None) -> None:
        self.budget_bytes = max(budget_bytes, MIN_BUDGET_BYTES)
        count = num_threads or min(8, os.cpu_count() or 1) + _WAITING_THREADS
        self._threads = ThreadPoolExecutor(max_workers=count)
        self._waiting: dict[int, deque[tuple[int, _Work]]] = {}
        self._changed = threading.Condition()
        self._pending_bytes = self._pending_jobs = 0
        self._failure: BaseException | None = None

    def submit(self, lane: int, size_bytes: int, work: _Work) -> None:
        """Run ``work``, which holds on to ``size_bytes``, after all that ``lane`` was given before.

        Raises:
            BaseException: the first error of any earlier work, whatever its lane.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size_bytes))
            self._raise_failure()
            self._pending_bytes += size_bytes
            self._pending_jobs += 1
            if lane in self._waiting:  # a thread is at it, and takes this up afterwards
                self._waiting[lane].append((size_bytes, work))
                return
            self._waiting[lane] = deque([(size_bytes, work)])
            self._threads.submit(self._run_next, lane)

    def drain(self) -> None:
        """Wait until everything handed over is done; errors as `submit`."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending_jobs == 0)
            self._raise_failure()

    def stop(self) -> None:
        """Drop what waits and wait for what runs; nothing can be submitted any more."""
        with self._changed:
            self._failure = self._failure or RuntimeError("the lanes were stopped")
            self._changed.notify_all()
        self._threads.shutdown(wait=True)

    def _has_room(self, size_bytes: int) -> bool:
        alone = self._pending_jobs == 0
        fits = self._pending_bytes + size_bytes <= self.budget_bytes
        return alone or fits or self._failure is not None

    def _run_next(self, lane: int) -> None:
        _, work = self._waiting[lane][0]
        try:
            if self._failure is None:
                work()
        except BaseException as error:  # noqa: BLE001  (raised where `submit` was called)
            self._failure = self._failure or error
        del work  # and with it the block, before there is room for another
        with self._changed:
            waiting = self._waiting[lane]
            for _ in range(len(waiting) if self._failure else 1):
                size_bytes, _ = waiting.popleft()
                self._pending_bytes -= size_bytes
                self._pending_jobs -= 1
            if waiting:
                self._threads.submit(self._run_next, lane)  # after the lanes that wait already
            else:
                del self._waiting[lane]
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.stop()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._pending_jobs == 0)
        self._threads.shutdown(wait=True)
        self._raise_failure()
