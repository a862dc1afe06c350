"""A clock that only moves when told, a strict engine that runs on it, and timelines by hand."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from neuronc.bench.engine_protocol import Phase, StepLike
from neuronc.bench.report import BenchReport
from neuronc.bench.run import run_benchmark
from neuronc.bench.timeline import RequestRecord
from neuronc.bench.workload import Workload

MS = 1_000_000  # nanoseconds
PREFILL_MS, DECODE_MS, HOST_MS = 10, 5, 1


@dataclass(frozen=True, kw_only=True)
class FakeStep:
    phase: Phase
    bucket: int
    start_ns: int
    end_ns: int
    active_slots: int = 1
    num_tokens: int = 1


@dataclass(frozen=True, kw_only=True)
class FakeToken:
    request_id: str
    token_id: int
    index: int
    time_ns: int
    finish_reason: Literal["stop", "length"] | None


@dataclass(frozen=True, kw_only=True)
class FakeRequest:
    request_id: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    stop_ids: frozenset[int]


@dataclass(frozen=True, kw_only=True)
class FakeSession:
    batch_size: int = 2
    max_length: int = 64
    prefill_buckets: tuple[int, ...] = (4, 16)
    decode_buckets: tuple[int, ...] = (32, 64)
    vocab_size: int = 50
    load_s: float = 0.25


@dataclass
class FakeClock:
    time_ns: int = 7_000 * MS
    slept_s: list[float] = field(default_factory=list)

    def now_ns(self) -> int:
        return self.time_ns

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept_s.append(seconds)
        self.time_ns += math.ceil(seconds * 1000) * MS

    def advance(self, milliseconds: int) -> int:
        self.time_ns += milliseconds * MS
        return self.time_ns


Spoil = Callable[[tuple[FakeToken, ...]], tuple[FakeToken, ...]]
OnStep = Callable[[StepLike], None]


class FakeEngine:
    """Refuses what a real engine would; a prefill takes 10 ms, a decode 5 ms, the host 1 ms.

    Prefill goes before decode. `spoil` may change the tokens of a step before they are returned.
    """

    def __init__(
        self, session: FakeSession, clock: FakeClock, spoil: Spoil, on_step: OnStep
    ) -> None:
        self.session, self.clock, self.spoil, self.on_step = session, clock, spoil, on_step
        self.queue: list[FakeRequest] = []
        self.slots: list[tuple[FakeRequest, int, int]] = []  # request, prefilled, generated
        self.seen: list[FakeRequest] = []

    def submit(self, request: FakeRequest, /) -> None:
        assert request.request_id not in {known.request_id for known in self.seen}
        assert request.prompt_ids
        assert all(0 <= token < self.session.vocab_size for token in request.prompt_ids)
        assert request.max_new_tokens >= 1
        assert len(request.prompt_ids) + request.max_new_tokens <= self.session.max_length
        assert request.stop_ids == frozenset()
        self.seen.append(request)
        self.queue.append(request)

    @property
    def has_work(self) -> bool:
        return bool(self.queue or self.slots)

    def step(self) -> tuple[FakeToken, ...]:
        assert self.has_work, "step() without work"
        self.clock.advance(HOST_MS)
        if self.queue and len(self.slots) < self.session.batch_size:
            self.slots.append((self.queue.pop(0), 0, 0))
        part = next((s for s in self.slots if s[1] < len(s[0].prompt_ids)), None)
        tokens = self._prefill(part) if part else self._decode()
        return self.spoil(tokens)

    def _prefill(self, slot: tuple[FakeRequest, int, int]) -> tuple[FakeToken, ...]:
        request, done, _ = slot
        left = len(request.prompt_ids) - done
        buckets = self.session.prefill_buckets
        bucket = next((size for size in buckets if size >= left), buckets[-1])
        took = min(left, bucket)
        self._record("prefill", bucket, PREFILL_MS, took)
        finished = done + took == len(request.prompt_ids)
        at = self.slots.index(slot)
        self.slots[at] = (request, done + took, 0)
        return self._emit([at]) if finished else ()

    def _decode(self) -> tuple[FakeToken, ...]:
        length = max(prefilled + generated for _, prefilled, generated in self.slots)
        bucket = next(size for size in self.session.decode_buckets if size >= length)
        self._record("decode", bucket, DECODE_MS, len(self.slots))
        return self._emit(range(len(self.slots)))

    def _emit(self, positions: "list[int] | range") -> tuple[FakeToken, ...]:
        tokens = []
        for at in positions:
            request, prefilled, index = self.slots[at]
            self.slots[at] = (request, prefilled, index + 1)
            token = FakeToken(
                request_id=request.request_id,
                token_id=index % self.session.vocab_size,
                index=index,
                time_ns=self.clock.now_ns(),
                finish_reason="length" if index + 1 == request.max_new_tokens else None,
            )
            tokens.append(token)
        self.slots = [slot for slot in self.slots if slot[2] < slot[0].max_new_tokens]
        return tuple(tokens)

    def _record(self, phase: Phase, bucket: int, took_ms: int, num_tokens: int) -> None:
        start_ns, end_ns = self.clock.now_ns(), self.clock.advance(took_ms)
        active = 1 if phase == "prefill" else len(self.slots)
        self.on_step(
            FakeStep(
                phase=phase,
                bucket=bucket,
                start_ns=start_ns,
                end_ns=end_ns,
                active_slots=active,
                num_tokens=num_tokens,
            )
        )


class FakeBench:
    """Runs a workload on a fake session and keeps the engine for questions afterwards."""

    engine: FakeEngine
    steps: list[StepLike]  # of the warm-up too

    def run(
        self, workload: Workload, spoil: Spoil = lambda tokens: tokens, **session: Any
    ) -> BenchReport:
        clock = FakeClock()
        self.steps = []

        def make_engine(session: FakeSession, /, *, on_step: OnStep) -> FakeEngine:
            def hear(step: StepLike) -> None:
                self.steps.append(step)
                on_step(step)

            self.engine = FakeEngine(session, clock, spoil, hear)
            return self.engine

        return run_benchmark(
            replace(FakeSession(), **session),
            make_engine,
            workload,
            make_request=FakeRequest,
            artifact_digest="sha256:abc",
            target="cpu",
            forbidden_ids={0, 1},
            clock=clock,
        )


def make_step(
    phase: Phase, start_ms: int, end_ms: int, *, bucket: int = 32, active_slots: int = 1
) -> FakeStep:
    return FakeStep(
        phase=phase,
        bucket=bucket,
        start_ns=start_ms * MS,
        end_ns=end_ms * MS,
        active_slots=active_slots,
    )


def make_record(start_ms: int, *token_times_ms: int, prompt_tokens: int = 4) -> RequestRecord:
    return RequestRecord(
        request_id=f"at {start_ms} ms",
        prompt_tokens=prompt_tokens,
        start_ns=start_ms * MS,
        submit_ns=start_ms * MS,
        token_times_ns=tuple(time_ms * MS for time_ms in token_times_ms),
    )
