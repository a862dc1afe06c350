"""Hashing and writing side by side, while the next block is read.

Work for one lane is done in the order in which it came, as a stream needs it; different lanes run
at the same time. hashlib and file writes release the interpreter lock.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

MIN_BUDGET_BYTES = 4 << 20


class Lanes:
    """A few threads with a bound on what waits for them.

    Attributes:
        budget_bytes: `submit` waits while more than this is handed over and not yet done.
    """

    def __init__(self, *, budget_bytes: int, num_threads: int | None = None) -> None:
        self.budget_bytes = max(budget_bytes, MIN_BUDGET_BYTES)
        count = num_threads or max(2, min(8, os.cpu_count() or 1))
        self._threads = [ThreadPoolExecutor(max_workers=1) for _ in range(count)]
        self._changed = threading.Condition()
        self._pending_bytes = self._pending_jobs = 0
        self._failure: BaseException | None = None

    def submit(self, lane: int, size_bytes: int, work: Callable[[], object]) -> None:
        """Run ``work``, which holds on to ``size_bytes``, after all that ``lane`` was given before.

        Raises:
            BaseException: the first error of any earlier work, whatever its lane.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size_bytes))
            self._raise_failure()
            self._pending_bytes += size_bytes
            self._pending_jobs += 1
        self._threads[lane % len(self._threads)].submit(self._run, size_bytes, work)

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
            self._changed.wait_for(lambda: self._pending_jobs == 0)

    def _has_room(self, size_bytes: int) -> bool:
        alone = self._pending_jobs == 0
        fits = self._pending_bytes + size_bytes <= self.budget_bytes
        return alone or fits or self._failure is not None

    def _run(self, size_bytes: int, work: Callable[[], object]) -> None:
        try:
            if self._failure is None:
                work()
        except BaseException as error:  # noqa: BLE001  (raised where `submit` was called)
            self._failure = self._failure or error
        finally:
            with self._changed:
                self._pending_bytes -= size_bytes
                self._pending_jobs -= 1
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
        for thread in self._threads:
            thread.shutdown(wait=True)
        if kind is None:
            self._raise_failure()
