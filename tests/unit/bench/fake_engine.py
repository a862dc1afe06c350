"""A clock that only moves when told, a strict engine that runs on it, and timelines by hand."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from neuronc.bench.engine_protocol import Phase, StepLike
from neuronc.bench.reference import KnownSequence
from neuronc.bench.run import Bench, Measured
from neuronc.bench.settings import Settings
from neuronc.bench.timeline import Finish, RequestRecord, Timeline
from neuronc.bench.workload.lengths import Fixed
from neuronc.bench.workload.workload import Workload
from neuronc.progress import SILENT, Progress

MS = 1_000_000  # nanoseconds
PREFILL_MS, DECODE_MS, HOST_MS = 10, 5, 1


@dataclass(frozen=True, kw_only=True)
class FakeStep:
    phase: Phase
    bucket: int
    start_ns: int
    end_ns: int
    slots: tuple[int, ...] = (0,)
    request_ids: tuple[str, ...] = ("request-0",)
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
    calls: list[tuple[Phase, int]] = field(default_factory=list)
    sampled: list[Phase] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)

    samples_on_device: bool = False

    def prefill_token(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> None:
        assert self.samples_on_device
        self.sampled.append("prefill")
        self.prefill(slot, token_ids, start=start)

    def decode_tokens(self, token_ids: Any, positions: Any, *, bucket: int | None = None) -> None:
        assert self.samples_on_device
        self.sampled.append("decode")
        self.decode(token_ids, positions, bucket=bucket)

    def prefill(self, slot: int, token_ids: Sequence[int], *, start: int = 0) -> Any:
        assert slot == 0
        assert 0 <= start <= self.max_length - self.prefill_bucket(len(token_ids))
        assert all(0 <= token < self.vocab_size for token in token_ids)
        self.calls.append(("prefill", self.prefill_bucket(len(token_ids))))
        self.starts.append((len(token_ids), start))
        return self.logits_of(0)

    def logits_of(self, token_id: int) -> Any:
        """As sure as can be of what `FakeEngine` answers: 0, 1, 2, ..."""
        return np.eye(self.vocab_size)[token_id % self.vocab_size]

    def decode(self, token_ids: Any, positions: Any, *, bucket: int | None = None) -> Any:
        assert bucket is not None
        assert len(token_ids) == len(positions) == self.batch_size
        assert 0 <= positions.min() <= positions.max() < bucket
        self.calls.append(("decode", bucket))
        return np.stack([self.logits_of(token + 1) for token in token_ids])

    def next_chunk(self, num_done: int, num_tokens: int) -> tuple[int, int]:
        return num_done, min(num_tokens, num_done + self.prefill_buckets[-1])

    def prefill_bucket(self, num_tokens: int) -> int:
        return next(size for size in self.prefill_buckets if size >= num_tokens)

    def decode_bucket(self, position: int) -> int:
        return next(size for size in self.decode_buckets if size > position)


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
        self.numbers: dict[str, int] = {}
        self.seen: list[FakeRequest] = []

    def submit(self, request: FakeRequest, /) -> None:
        assert request.request_id not in {known.request_id for known in self.seen}
        assert request.prompt_ids
        assert all(0 <= token < self.session.vocab_size for token in request.prompt_ids)
        assert request.max_new_tokens >= 1
        assert len(request.prompt_ids) + request.max_new_tokens <= self.session.max_length
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
        self._record("prefill", bucket, PREFILL_MS, took, [request])
        finished = done + took == len(request.prompt_ids)
        at = self.slots.index(slot)
        self.slots[at] = (request, done + took, 0)
        return self._emit([at]) if finished else ()

    def _decode(self) -> tuple[FakeToken, ...]:
        length = max(prefilled + generated for _, prefilled, generated in self.slots)
        bucket = next(size for size in self.session.decode_buckets if size >= length)
        requests = [request for request, _, _ in self.slots]
        self._record("decode", bucket, DECODE_MS, len(self.slots), requests)
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
        for request, _, generated in self.slots:
            if generated == request.max_new_tokens:
                del self.numbers[request.request_id]
        self.slots = [slot for slot in self.slots if slot[2] < slot[0].max_new_tokens]
        return tuple(tokens)

    def _record(
        self, phase: Phase, bucket: int, took_ms: int, num_tokens: int, served: list[FakeRequest]
    ) -> None:
        start_ns, end_ns = self.clock.now_ns(), self.clock.advance(took_ms)
        for request in served:
            free = set(range(self.session.batch_size)) - set(self.numbers.values())
            self.numbers.setdefault(request.request_id, min(free, default=-1))
        self.on_step(
            FakeStep(
                phase=phase,
                bucket=bucket,
                start_ns=start_ns,
                end_ns=end_ns,
                slots=tuple(self.numbers[request.request_id] for request in served),
                request_ids=tuple(request.request_id for request in served),
                num_tokens=num_tokens,
            )
        )


def lengths(prompt_tokens: int, new_tokens: int, **fields: Any) -> Workload:
    return Workload(prompt_tokens=Fixed(prompt_tokens), new_tokens=Fixed(new_tokens), **fields)


def keep(tokens: tuple[FakeToken, ...]) -> tuple[FakeToken, ...]:
    return tokens


class FakeBench:
    """Measures a fake session and keeps its engines and the clock for questions afterwards."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.clock = FakeClock()
        self.session = FakeSession()

    def measure(
        self,
        settings: Settings,
        spoil: Spoil = keep,
        known: tuple[KnownSequence, ...] = (),
        progress: Progress = SILENT,
        **session: Any,
    ) -> Measured:
        self.session = replace(FakeSession(), **session)

        def make_engine(
            session: FakeSession, /, *, on_step: OnStep, prefill_policy: str
        ) -> FakeEngine:
            assert prefill_policy == settings.prefill_policy
            self.engines.append(FakeEngine(session, self.clock, spoil, on_step))
            return self.engines[-1]

        return Bench(
            session=self.session,
            engine_factory=make_engine,
            make_request=FakeRequest,
            forbidden_ids={0, 1},
            stop_ids=frozenset({1}),
            known=known,
            clock=self.clock,
        ).measure(settings, progress)

    def run(self, settings: Settings, spoil: Spoil = keep, **session: Any) -> Timeline:
        """The only run of ``settings``, which ask for one."""
        (found,) = self.measure(replace(settings, repeats=1), spoil, **session).runs
        (timeline,) = found.timelines
        return timeline


def make_timeline(
    *requests: RequestRecord, steps: tuple[FakeStep, ...] = (), **fields: Any
) -> Timeline:
    ends = [0, *(r.token_times_ns[-1] for r in requests if r.token_times_ns)]
    given = {"batch_size": 2, "begin_ns": 0, "end_ns": max(ends), **fields}
    return Timeline(requests=requests, steps=steps, **given)


def make_step(
    phase: Phase,
    start_ms: int,
    end_ms: int,
    *,
    bucket: int = 32,
    request_ids: tuple[str, ...] = ("request-0",),
    num_tokens: int = 1,
) -> FakeStep:
    return FakeStep(
        phase=phase,
        bucket=bucket,
        start_ns=start_ms * MS,
        end_ns=end_ms * MS,
        slots=tuple(range(len(request_ids))),
        request_ids=request_ids,
        num_tokens=num_tokens,
    )


def make_record(
    start_ms: int,
    *token_times_ms: int,
    request_id: str = "request-0",
    send_ms: int | None = None,
    prompt_tokens: int = 4,
    finish: Finish = "length",
) -> RequestRecord:
    return RequestRecord(
        request_id=request_id,
        prompt_tokens=prompt_tokens,
        new_tokens=len(token_times_ms),
        sched_ns=start_ms * MS,
        send_ns=(start_ms if send_ms is None else send_ms) * MS,
        token_times_ns=tuple(time_ms * MS for time_ms in token_times_ms),
        token_ids=tuple(range(len(token_times_ms))),
        finish=finish,
    )
