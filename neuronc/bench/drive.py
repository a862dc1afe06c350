"""Push requests through an engine and note when what happened; nothing is computed here."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol

from neuronc.bench.engine_protocol import EngineLike, RequestFactory, RequestT, TokenLike
from neuronc.bench.recorder import Recorder
from neuronc.bench.timeline import Finish, RequestRecord, Timeline
from neuronc.bench.workload.requests import TimedRequest
from neuronc.errors import BenchmarkError, InputError, NeuroncError

TELL_S = 1.0
"""Between two words to whoever waits for arrivals."""
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
    sched_ns: int
    send_ns: int
    token_times_ns: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish: Finish = "failed"

    def take(self, token: TokenLike, vocab_size: int, *, may_stop: bool) -> bool:
        """Note one token; True if it was the last. A token nobody asked for ends the run."""
        times, wanted = self.token_times_ns, self.request.new_tokens
        previous_ns = times[-1] if times else self.send_ns
        follows = token.index == len(times) and token.time_ns >= previous_ns
        if not follows or not 0 <= token.token_id < vocab_size:
            message = (
                f"{token.request_id}: expected token {len(times)} of a vocabulary of {vocab_size}, "
                f"not before {previous_ns} ns; found token {token.index} with id {token.token_id} "
                f"at {token.time_ns} ns"
            )
            raise BenchmarkError(message, hint=INVALID_HINT)
        times.append(token.time_ns)
        self.token_ids.append(token.token_id)
        is_last = len(times) == wanted
        reason = token.finish_reason
        if reason != ("length" if is_last else None) and not (may_stop and reason == "stop"):
            message = (
                f"{token.request_id}: expected to end at exactly {wanted} tokens, "
                f"found finish reason {reason!r} at {len(times)}"
            )
            raise BenchmarkError(message, hint=INVALID_HINT)
        if reason is not None:
            self.finish = reason
        return reason is not None

    def record(self) -> RequestRecord:
        """What it came to."""
        return RequestRecord(
            request_id=self.request.request_id,
            prompt_tokens=len(self.request.prompt_ids),
            new_tokens=self.request.new_tokens,
            sched_ns=self.sched_ns,
            send_ns=self.send_ns,
            token_times_ns=tuple(self.token_times_ns),
            token_ids=tuple(self.token_ids),
            finish=self.finish,
        )


@dataclass(frozen=True, kw_only=True)
class Driver(Generic[RequestT]):
    """Makes an engine for every run, so that none begins with what another left.

    Attributes:
        make_engine: An engine whose steps go to the recorder it is given.
        stop_ids: Tokens that end a request early; none if only its length does.
    """

    make_engine: Callable[[Recorder], EngineLike[RequestT]]
    make_request: RequestFactory[RequestT]
    clock: Clock
    vocab_size: int
    batch_size: int
    stop_ids: frozenset[int] = frozenset()

    def drive(
        self,
        requests: Sequence[TimedRequest],
        *,
        concurrency: int | None,
        limit_s: float | None = None,
        on_finish: Callable[[int], None] = lambda _: None,
        on_wait: Callable[[int, float], None] = lambda _, __: None,
    ) -> Timeline:
        """Run ``requests`` to their ends, ``concurrency`` at a time or by their arrivals.

        Args:
            requests: By arrival.
            concurrency: Of a closed loop; None for an open one.
            limit_s: What is not done then has failed; a closed loop leaves out what it had not
                sent, since nothing had scheduled it.
            on_finish: Told of every request that ended, with the number of its tokens.
            on_wait: Told now and then while nothing runs, with the requests that are still to come
                and the seconds until the last of them.

        Raises:
            BenchmarkError: The engine failed, stalled, or gave other tokens than asked for.
        """
        recorder = Recorder()
        engine = self.make_engine(recorder)
        run = _Run(self, engine, recorder, deque(requests), on_finish, on_wait)
        with _engine_failures(), recorder.watching():
            return run.to_end(concurrency, limit_s)


class _Run(Generic[RequestT]):
    """One call of `Driver.drive`."""

    def __init__(
        self,
        driver: Driver[RequestT],
        engine: EngineLike[RequestT],
        recorder: Recorder,
        waiting: deque[TimedRequest],
        on_finish: Callable[[int], None],
        on_wait: Callable[[int, float], None],
    ) -> None:
        self.driver, self.engine, self.recorder, self.waiting = driver, engine, recorder, waiting
        self.on_finish, self.on_wait = on_finish, on_wait
        self.flights: dict[str, _Flight] = {}
        self.num_finished = 0
        self.begin_ns = 0

    def to_end(self, concurrency: int | None, limit_s: float | None) -> Timeline:
        clock = self.driver.clock
        self.begin_ns = clock.now_ns()
        end_ns = None if limit_s is None else self.begin_ns + round(limit_s * 1e9)
        while self.waiting or self._num_running():
            if end_ns is not None and clock.now_ns() >= end_ns:
                break
            self._send_due(concurrency)
            if self._num_running():
                self._step()
            else:
                self._wait(end_ns)
        return self._timeline(is_closed=concurrency is not None)

    def _num_running(self) -> int:
        return len(self.flights) - self.num_finished

    def _send_due(self, concurrency: int | None) -> None:
        while self.waiting and (concurrency is None or self._num_running() < concurrency):
            due_ns = self._due_ns(self.waiting[0])
            now_ns = self.driver.clock.now_ns()
            if due_ns is not None and now_ns < due_ns:
                return
            request = self.waiting.popleft()
            made = self.driver.make_request(
                request_id=request.request_id,
                prompt_ids=request.prompt_ids,
                max_new_tokens=request.new_tokens,
                stop_ids=self.driver.stop_ids,
            )
            sched_ns = now_ns if due_ns is None else due_ns
            self.flights[request.request_id] = _Flight(request, sched_ns, now_ns)
            self.engine.submit(made)

    def _step(self) -> None:
        """Run one program and note the tokens it gave."""
        if not self.engine.has_work:
            message = "the engine has no work left, but requests are still short of tokens"
            raise BenchmarkError(message, hint=INVALID_HINT)
        may_stop = bool(self.driver.stop_ids)
        for token in self.engine.step():
            flight = self.flights.get(token.request_id)
            if flight is None or flight.finish != "failed":
                message = f"a token arrived for {token.request_id!r}, which is not in flight"
                raise BenchmarkError(message, hint=INVALID_HINT)
            if flight.take(token, self.driver.vocab_size, may_stop=may_stop):
                self.num_finished += 1
                self.on_finish(len(flight.token_ids))

    def _wait(self, end_ns: int | None) -> None:
        """Until the next arrival, or the end of the run."""
        due_ns = self._due_ns(self.waiting[0])
        assert due_ns is not None, "a closed loop never waits"
        self.recorder.note_idle()
        clock = self.driver.clock
        until_ns = due_ns if end_ns is None else min(due_ns, end_ns)
        wait_s = max(0, until_ns - clock.now_ns()) / 1e9
        if wait_s > TELL_S:  # drawing takes far less, and only where there is time for it
            last_ns = self._due_ns(self.waiting[-1]) or due_ns
            last_ns = last_ns if end_ns is None else min(last_ns, end_ns)
            self.on_wait(len(self.waiting), max(0, last_ns - clock.now_ns()) / 1e9)
            wait_s = TELL_S
        clock.sleep(wait_s)

    def _due_ns(self, request: TimedRequest) -> int | None:
        arrival_s = request.arrival_s
        return None if arrival_s is None else self.begin_ns + round(arrival_s * 1e9)

    def _timeline(self, *, is_closed: bool) -> Timeline:
        sent = [flight.record() for flight in self.flights.values()]
        unsent = [] if is_closed else [self._never_sent(request) for request in self.waiting]
        return self.recorder.timeline(
            batch_size=self.driver.batch_size,
            begin_ns=self.begin_ns,
            end_ns=self.driver.clock.now_ns(),
            requests=(*sent, *unsent),
        )

    def _never_sent(self, request: TimedRequest) -> RequestRecord:
        return RequestRecord(
            request_id=request.request_id,
            prompt_tokens=len(request.prompt_ids),
            new_tokens=request.new_tokens,
            sched_ns=self._due_ns(request) or self.begin_ns,
            send_ns=None,
            token_times_ns=(),
            token_ids=(),
            finish="failed",
        )


@contextmanager
def _engine_failures() -> Iterator[None]:
    """Anything unexpected makes the run invalid; errors that name their own way out pass."""
    try:
        yield
    except InputError as error:  # logits that are not finite
        message = f"the engine failed during the benchmark: {error.message}"
        raise BenchmarkError(message, hint=INVALID_HINT) from error
    except (NeuroncError, MemoryError):
        raise
    except Exception as error:
        message = f"the engine failed during the benchmark: {type(error).__name__}: {error}"
        raise BenchmarkError(message, hint=INVALID_HINT) from error
