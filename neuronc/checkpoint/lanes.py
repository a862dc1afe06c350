"""Hashing and writing side by side, while the next block is read.

Work for one lane is done in the order in which it came, as a stream needs it; different lanes run
at the same time, on whichever thread is free. hashlib and file writes release the interpreter lock.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

MIN_BUDGET_BYTES = 4 << 20

_WAITING_THREADS = 4
"""Beside one for each core: a thread that writes waits for the disk most of the time, and four ranks
write at once."""

_Work = Callable[[], object]


class Lanes:
    """A few threads with a bound on what waits for them.

    Attributes:
        budget_bytes: `submit` waits while more than this is handed over and not yet done.
    """

    def __init__(self, *, budget_bytes: int, num_threads: int | None = None) -> None:
        self.budget_bytes = max(budget_bytes, MIN_BUDGET_BYTES)
        count = num_threads or min(8, os.cpu_count() or 1) + _WAITING_THREADS
        self._waiting: dict[int, deque[tuple[int, _Work]]] = {}
        self._ready: deque[int] = deque()  # those that no thread is at
        lock = threading.Lock()
        self._changed, self._has_ready = threading.Condition(lock), threading.Condition(lock)
        self._pending_bytes = self._pending_jobs = 0
        self._failure: BaseException | None = None
        self._is_open = True
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

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
            if lane in self._waiting:
                self._waiting[lane].append((size_bytes, work))
                return
            self._waiting[lane] = deque([(size_bytes, work)])
            self._ready.append(lane)
            self._has_ready.notify()

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
        self._close()

    def _close(self) -> None:
        with self._has_ready:
            self._is_open = False
            self._has_ready.notify_all()
        for thread in self._threads:
            thread.join()

    def _has_room(self, size_bytes: int) -> bool:
        alone = self._pending_jobs == 0
        fits = self._pending_bytes + size_bytes <= self.budget_bytes
        return alone or fits or self._failure is not None

    def _serve(self) -> None:
        while (lane := self._next_lane()) is not None:
            try:
                if self._failure is None:
                    self._waiting[lane][0][1]()
            except BaseException as error:  # noqa: BLE001  (raised where `submit` was called)
                self._failure = self._failure or error
            self._end_work(lane)

    def _next_lane(self) -> int | None:
        with self._has_ready:
            self._has_ready.wait_for(lambda: self._ready or not self._is_open)
            return self._ready.popleft() if self._ready else None

    def _end_work(self, lane: int) -> None:
        with self._changed:
            waiting = self._waiting[lane]
            for _ in range(len(waiting) if self._failure else 1):
                size_bytes, _ = waiting.popleft()
                self._pending_bytes -= size_bytes
                self._pending_jobs -= 1
            if waiting:
                self._ready.append(lane)  # after those that wait already
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
        self._close()
        self._raise_failure()
