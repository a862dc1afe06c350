"""Push requests through an engine and note when what happened; nothing is computed here."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol

from neuronc.bench.engine_protocol import (
    EngineLike,
    RequestFactory,
    RequestT,
    StepLike,
    TokenLike,
)
from neuronc.bench.timeline import RequestRecord, Timeline
from neuronc.bench.workload import TimedRequest
from neuronc.errors import BenchmarkError, NeuroncError

INVALID_HINT = "no number of this run can be trusted; run `neuronc verify` on the artifact"


class Clock(Protocol):
    """The clock of the run, the same one the engine stamps its tokens and steps with."""

    def now_ns(self) -> int: ...
    def sleep(self, seconds: float) -> None: ...


class PerfClock:
    """`time.perf_counter_ns`."""

    def now_ns(self) -> int:
        """Nanoseconds of the monotonic clock."""
        return time.perf_counter_ns()

    def sleep(self, seconds: float) -> None:
        """Wait at least ``seconds``."""
        time.sleep(seconds)


@dataclass(slots=True)
class _Flight:
    """A submitted request and the tokens it has so far."""

    request: TimedRequest
    start_ns: int
    submit_ns: int
    token_times_ns: list[int] = field(default_factory=list)

    def take(self, token: TokenLike, vocab_size: int) -> bool:
        """Note one token; True if it was the last. A token nobody asked for ends the run."""
        times, wanted = self.token_times_ns, self.request.new_tokens
        previous_ns = times[-1] if times else self.submit_ns
        follows = token.index == len(times) and token.time_ns >= previous_ns
        if not follows or not 0 <= token.token_id < vocab_size:
            message = (
                f"{token.request_id}: expected token {len(times)} of a vocabulary of {vocab_size}, "
                f"not before {previous_ns} ns; found token {token.index} with id {token.token_id} "
                f"at {token.time_ns} ns"
            )
            raise BenchmarkError(message, hint=INVALID_HINT)
        times.append(token.time_ns)
        done = len(times) == wanted
        if token.finish_reason != ("length" if done else None):
            message = (
                f"{token.request_id}: expected to end at exactly {wanted} tokens, "
                f"found finish reason {token.finish_reason!r} at {len(times)}"
            )
            raise BenchmarkError(message, hint=INVALID_HINT)
        return done


@dataclass(kw_only=True)
class Driver(Generic[RequestT]):
    """An engine with the means to drive it; ``steps`` is the list the engine's hook appends to."""

    engine: EngineLike[RequestT]
    make_request: RequestFactory[RequestT]
    clock: Clock
    steps: list[StepLike]
    vocab_size: int

    def drive(
        self,
        requests: Sequence[TimedRequest],
        *,
        concurrency: int | None,
        on_finish: Callable[[], None],
    ) -> Timeline:
        """Run ``requests`` to their ends, ``concurrency`` at a time or by their arrivals.

        Raises:
            BenchmarkError: The engine failed, stalled, or gave other tokens than asked for.
        """
        self.steps.clear()
        with _engine_failures():
            return self._drive(deque(requests), concurrency, on_finish)

    def _drive(
        self, waiting: deque[TimedRequest], concurrency: int | None, on_finish: Callable[[], None]
    ) -> Timeline:
        flights: dict[str, _Flight] = {}
        num_finished = 0
        idle_before: set[int] = set()
        begin_ns = self.clock.now_ns()
        while waiting or num_finished < len(flights):
            while waiting and (concurrency is None or len(flights) - num_finished < concurrency):
                due_ns = _due_ns(waiting[0], begin_ns)
                if due_ns is not None and self.clock.now_ns() < due_ns:
                    break
                request = waiting.popleft()
                flights[request.request_id] = self._submit(request, due_ns)
            if num_finished == len(flights):
                idle_before.add(len(self.steps))
                self._wait_until(_due_ns(waiting[0], begin_ns))
                continue
            for _ in range(self._step(flights)):
                num_finished += 1
                on_finish()
        return Timeline(
            requests=tuple(_record(flight) for flight in flights.values()),
            steps=tuple(self.steps),
            idle_before=frozenset(idle_before),
        )

    def _submit(self, request: TimedRequest, due_ns: int | None) -> _Flight:
        made = self.make_request(
            request_id=request.request_id,
            prompt_ids=request.prompt_ids,
            max_new_tokens=request.new_tokens,
            stop_ids=frozenset(),
        )
        now_ns = self.clock.now_ns()
        self.engine.submit(made)
        return _Flight(request, start_ns=now_ns if due_ns is None else due_ns, submit_ns=now_ns)

    def _step(self, flights: dict[str, _Flight]) -> int:
        """Run one program; how many requests it finished."""
        if not self.engine.has_work:
            message = "the engine has no work left, but requests are still short of tokens"
            raise BenchmarkError(message, hint=INVALID_HINT)
        num_finished = 0
        for token in self.engine.step():
            flight = flights.get(token.request_id)
            if flight is None or len(flight.token_times_ns) == flight.request.new_tokens:
                message = f"a token arrived for {token.request_id!r}, which is not in flight"
                raise BenchmarkError(message, hint=INVALID_HINT)
            num_finished += flight.take(token, self.vocab_size)
        return num_finished

    def _wait_until(self, due_ns: int | None) -> None:
        assert due_ns is not None, "a closed loop never waits"
        self.clock.sleep(max(0, due_ns - self.clock.now_ns()) / 1e9)


def _due_ns(request: TimedRequest, begin_ns: int) -> int | None:
    return None if request.arrival_s is None else begin_ns + round(request.arrival_s * 1e9)


def _record(flight: _Flight) -> RequestRecord:
    return RequestRecord(
        request_id=flight.request.request_id,
        prompt_tokens=len(flight.request.prompt_ids),
        start_ns=flight.start_ns,
        submit_ns=flight.submit_ns,
        token_times_ns=tuple(flight.token_times_ns),
    )


@contextmanager
def _engine_failures() -> Iterator[None]:
    """Anything unexpected makes the run invalid; errors that name their own way out pass."""
    try:
        yield
    except (NeuroncError, MemoryError):
        raise
    except Exception as error:
        message = f"the engine failed during the benchmark: {type(error).__name__}: {error}"
        raise BenchmarkError(message, hint=INVALID_HINT) from error
