"""Continuous batching: requests take slots as they become free, and leave them when done."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from neuronc.errors import PlanError, UsageError
from neuronc.runtime.request import FinishReason, Request, StepRecord, TokenEvent
from neuronc.runtime.sampling import Logits, check_sampling, sample
from neuronc.runtime.session import Session


@dataclass(slots=True)
class _Slot:
    """A request while it lives in a slot; ``num_cached`` tokens of it are in the KV cache."""

    request: Request
    rng: np.random.Generator
    num_cached: int = 0
    new_ids: list[int] = field(default_factory=list)

    @property
    def is_prefilled(self) -> bool:
        return self.num_cached >= len(self.request.prompt_ids)


class Engine:
    """Feeds a session.

    One `step` runs one executable: a prefill chunk if a request waits for one, otherwise a decode
    step of all slots.

    Args:
        session: An opened artifact; the engine owns its slots.
        on_step: Called after every executable.
    """

    def __init__(
        self, session: Session, *, on_step: Callable[[StepRecord], None] | None = None
    ) -> None:
        self._session, self._on_step = session, on_step
        self._waiting: deque[Request] = deque()
        self._slots: list[_Slot | None] = [None] * session.batch_size
        self._tokens = np.zeros(session.batch_size, dtype=np.int32)
        self._positions = np.zeros(session.batch_size, dtype=np.int32)

    def submit(self, request: Request) -> None:
        """Queue ``request``.

        Raises:
            PlanError: prompt and answer do not fit the KV cache.
            UsageError: an empty prompt, a token outside the vocabulary, or bad sampling values.
        """
        check_sampling(request.sampling)
        num_prompt, limit = len(request.prompt_ids), self._session.max_length
        if num_prompt == 0 or request.max_new_tokens < 1:
            message = f"request {request.request_id!r} has no prompt or asks for no tokens"
            raise UsageError(message, hint="give a prompt and at least 1 new token")
        if num_prompt + request.max_new_tokens > limit:
            message = (
                f"request {request.request_id!r} needs {num_prompt} prompt tokens and"
                f" {request.max_new_tokens} new ones; the artifact's max length is {limit}"
            )
            raise PlanError(message, hint="shorten it, or compile with a larger --max-length")
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self._session.vocab_size:
            message = f"request {request.request_id!r} has a token outside the vocabulary"
            raise UsageError(message, hint="use the artifact's own tokenizer")
        self._waiting.append(request)

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._waiting) or any(slot is not None for slot in self._slots)

    def step(self) -> tuple[TokenEvent, ...]:
        """Run one executable; the tokens it gave, none for a prompt's earlier chunks."""
        self._fill_slots()
        for number, slot in enumerate(self._slots):
            if slot is not None and not slot.is_prefilled:
                return self._prefill(number, slot)
        return self._decode()

    def run(self, requests: Iterable[Request]) -> dict[str, tuple[int, ...]]:
        """Submit ``requests`` and step until all are done; new tokens by request id.

        A stop token is not part of the answer.
        """
        answers: dict[str, list[int]] = {}
        for request in requests:
            self.submit(request)
            answers[request.request_id] = []
        while self.has_work:
            for event in self.step():
                if event.finish_reason != "stop":
                    answers[event.request_id].append(event.token_id)
        return {request_id: tuple(ids) for request_id, ids in answers.items()}

    def _fill_slots(self) -> None:
        for number, slot in enumerate(self._slots):
            if slot is None and self._waiting:
                request = self._waiting.popleft()
                rng = np.random.default_rng(request.sampling.seed)
                self._slots[number] = _Slot(request, rng)
                self._positions[number] = 0

    def _prefill(self, number: int, slot: _Slot) -> tuple[TokenEvent, ...]:
        prompt = slot.request.prompt_ids
        start, end = self._session.next_chunk(slot.num_cached, len(prompt))
        begin_ns = time.perf_counter_ns()
        logits = self._session.prefill(number, prompt[start:end], start=start)
        bucket = self._session.prefill_bucket(end - start)
        self._record("prefill", bucket, 1, end - slot.num_cached, begin_ns)
        slot.num_cached = end
        # Until its prompt is whole, decode steps of the other slots write their padding here,
        # where the next chunk overwrites it.
        self._positions[number] = min(end, self._session.max_length - 1)
        return (self._take(number, slot, logits),) if slot.is_prefilled else ()

    def _decode(self) -> tuple[TokenEvent, ...]:
        active = [(n, slot) for n, slot in enumerate(self._slots) if slot is not None]
        if not active:
            return ()
        begin_ns = time.perf_counter_ns()
        bucket = self._session.decode_bucket(max(int(self._positions[n]) for n, _ in active))
        logits = self._session.decode(self._tokens, self._positions, bucket=bucket)
        self._record("decode", bucket, len(active), len(active), begin_ns)
        events = []
        for number, slot in active:
            slot.num_cached += 1
            self._positions[number] += 1
            events.append(self._take(number, slot, logits[number]))
        return tuple(events)

    def _take(self, number: int, slot: _Slot, logits: Logits) -> TokenEvent:
        """Sample the slot's next token; free the slot when it was the last."""
        token = sample(logits, slot.request.sampling, slot.rng)
        slot.new_ids.append(token)
        self._tokens[number] = token
        reason: FinishReason | None = None
        if token in slot.request.stop_ids:
            reason = "stop"
        elif len(slot.new_ids) == slot.request.max_new_tokens:
            reason = "length"
        if reason is not None:
            self._slots[number] = None
            self._positions[number] = 0
        return TokenEvent(
            request_id=slot.request.request_id,
            token_id=token,
            index=len(slot.new_ids) - 1,
            time_ns=time.perf_counter_ns(),
            finish_reason=reason,
        )

    def _record(self, phase: str, bucket: int, active: int, num_tokens: int, begin: int) -> None:
        if self._on_step is not None:
            self._on_step(
                StepRecord(
                    phase="prefill" if phase == "prefill" else "decode",
                    bucket=bucket,
                    active_slots=active,
                    num_tokens=num_tokens,
                    start_ns=begin,
                    end_ns=time.perf_counter_ns(),
                )
            )
