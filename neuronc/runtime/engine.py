"""Continuous batching: requests take slots as they become free, and leave them when done."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neuronc.errors import UsageError
from neuronc.runtime.request import (
    FinishReason,
    PrefillPolicy,
    Request,
    StepRecord,
    TokenEvent,
)
from neuronc.runtime.sampling import Array, check_sampling, check_token, sample
from neuronc.runtime.session import Session
from neuronc.runtime.slots import Slot, Started, check_prompt
from neuronc.trace.program_spec import StepPhase


class Engine:
    """Feeds a session.

    One `step` runs one executable: a prefill chunk where the policy lets a waiting prompt go
    first, otherwise a decode step of all slots. Where the artifact samples on the device, steps
    of greedy requests alone bring tokens to the host and no logits; the answers are the same.
    Where it can, the next of them starts before the host has seen the tokens of the last, so that
    the host's work costs no time; if one of these ends its answer, what comes after is dropped. A
    prompt that arrives meanwhile waits for the step that runs.

    A request's logits do not depend on what is in the other slots. Only where the artifact has
    several decode buckets can the last bits differ: the longest sequence decides which program
    runs, and another program may add in another order.

    Args:
        session: An opened artifact; the engine owns its slots.
        on_step: Called after every executable.
        prefill_policy: When a waiting prompt gets its prefill, while other slots decode.
    """

    def __init__(
        self,
        session: Session,
        *,
        on_step: Callable[[StepRecord], None] | None = None,
        prefill_policy: PrefillPolicy = "first",
    ) -> None:
        self._session, self._on_step = session, on_step
        self._policy, self._was_prefill = prefill_policy, False
        self._ahead: Started | None = None
        self._end_ns = 0  # of the last executable
        self._waiting: deque[Request] = deque()
        self._slots: list[Slot | None] = [None] * session.batch_size
        self._in_flight: set[str] = set()  # ids of the requests in both
        # The newest token of every slot and where it goes. A free slot's go to position 0, which
        # the next prompt overwrites.
        self._tokens = np.zeros(session.batch_size, dtype=np.int32)
        self._positions = np.zeros(session.batch_size, dtype=np.int32)

    def submit(self, request: Request) -> None:
        """Queue ``request``; one that is refused leaves the engine as it was.

        Raises:
            PlanError: prompt and answer do not fit the KV cache.
            UsageError: an empty prompt, a token outside the vocabulary, bad sampling values, or
                the id of a request that waits or runs.
        """
        check_sampling(request.sampling)
        check_prompt(request, self._session)
        if request.request_id in self._in_flight:
            message = f"request id {request.request_id!r} is in use"
            raise UsageError(message, hint="give every request an id of its own")
        self._in_flight.add(request.request_id)
        self._waiting.append(request)

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._in_flight)

    def step(self) -> tuple[TokenEvent, ...]:
        """Run one executable; the tokens it gave, none for a prompt's earlier chunks."""
        self._fill_slots()
        if running := self._take_ahead():
            return self._finish(running)
        active = [(n, slot) for n, slot in enumerate(self._slots) if slot is not None]
        decoding = [(n, slot) for n, slot in active if slot.is_prefilled]
        waiting = [(n, slot) for n, slot in active if not slot.is_prefilled]
        if waiting and (not decoding or self._goes_first()):
            self._was_prefill = True
            return self._prefill(*waiting[0])
        self._was_prefill = False
        return self._decode(decoding)

    def run(self, requests: Iterable[Request]) -> dict[str, tuple[int, ...]]:
        """Submit ``requests`` and step until nothing is left to do; new tokens by request id.

        A stop token is not part of the answer. If one request is refused, none is submitted.
        """
        self._submit_all(requests)
        answers: dict[str, list[int]] = {r.request_id: [] for r in self._waiting}
        while self.has_work:
            for event in self.step():
                tokens = answers.setdefault(event.request_id, [])
                if event.finish_reason != "stop":
                    tokens.append(event.token_id)
        return {request_id: tuple(ids) for request_id, ids in answers.items()}

    def _submit_all(self, requests: Iterable[Request]) -> None:
        num_waiting = len(self._waiting)
        try:
            for request in requests:
                self.submit(request)
        except BaseException:
            while len(self._waiting) > num_waiting:
                self._in_flight.remove(self._waiting.pop().request_id)
            raise

    def _fill_slots(self) -> None:
        for number, slot in enumerate(self._slots):
            if slot is None and self._waiting:
                request = self._waiting.popleft()
                rng = np.random.default_rng(request.sampling.seed)
                self._slots[number] = Slot(request, rng)

    def _prefill(self, number: int, slot: Slot) -> tuple[TokenEvent, ...]:
        prompt = slot.request.prompt_ids
        start, end = self._session.next_chunk(slot.num_cached, len(prompt))
        bucket = self._session.prefill_bucket(end - start)
        begin_ns = time.perf_counter_ns()
        run = self._session.prefill_token if self._on_device((slot,)) else self._session.prefill
        found = run(number, prompt[start:end], start=start)
        self._record("prefill", bucket, [(number, slot)], end - slot.num_cached, begin_ns)
        slot.num_cached = self._positions[number] = end
        return (self._take(number, slot, found),) if slot.is_prefilled else ()

    def _goes_first(self) -> bool:
        """Whether a waiting prompt goes before the slots that decode."""
        if self._policy == "alternate":
            return not self._was_prefill
        return self._policy == "first"

    def _decode(self, active: Sequence[tuple[int, Slot]]) -> tuple[TokenEvent, ...]:
        if not active:
            return ()
        on_device = self._on_device(slot for _, slot in active)
        if on_device and self._session.runs_ahead:
            return self._finish(self._start(active, self._tokens, self._positions))
        bucket = self._session.decode_bucket(int(self._positions.max()))
        begin_ns = time.perf_counter_ns()
        run = self._session.decode_tokens if on_device else self._session.decode
        found = run(self._tokens, self._positions, bucket=bucket)
        self._record("decode", bucket, active, len(active), begin_ns)
        return self._take_all(active, found)

    def _start(self, active: Iterable[tuple[int, Slot]], tokens: Any, positions: Array) -> Started:
        bucket = self._session.decode_bucket(int(positions.max()))
        begin_ns = time.perf_counter_ns()
        found = self._session.start_decode(tokens, positions, bucket=bucket)
        return Started(found, bucket, tuple(active), begin_ns)

    def _finish(self, running: Started) -> tuple[TokenEvent, ...]:
        """The tokens of a step that runs, after starting the one that follows."""
        self._ahead = self._start_next(running)
        found = self._session.arrived(running.tokens)
        active = running.active
        begin_ns = max(running.begin_ns, self._end_ns)  # executables run one after the other
        self._record("decode", running.bucket, active, len(active), begin_ns)
        return self._take_all(active, found)

    def _start_next(self, running: Started) -> Started | None:
        """The step after ``running``, unless a prompt waits or every answer has its length then."""
        occupied = sum(slot is not None for slot in self._slots)
        if self._waiting or occupied > len(running.active):
            return None
        going_on = [
            (number, slot)
            for number, slot in running.active
            if slot.num_new + 1 < slot.request.max_new_tokens
        ]
        if not going_on:
            return None
        positions = np.zeros_like(self._positions)
        for number, _ in going_on:
            positions[number] = self._positions[number] + 1
        return self._start(going_on, running.tokens, positions)

    def _take_ahead(self) -> Started | None:
        """The step that was started ahead, for those of its requests that still run."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        active = tuple((n, slot) for n, slot in ahead.active if self._slots[n] is slot)
        return replace(ahead, active=active) if active else None

    def _take_all(self, active: Sequence[tuple[int, Slot]], found: Array) -> tuple[TokenEvent, ...]:
        events = []
        for number, slot in active:
            self._positions[number] += 1
            events.append(self._take(number, slot, found[number]))
        return tuple(events)

    def _on_device(self, slots: Iterable[Slot]) -> bool:
        """Whether the tokens of a step are all that is wanted of it."""
        greedy = (slot.request.sampling.temperature == 0.0 for slot in slots)
        return self._session.samples_on_device and all(greedy)

    def _take(self, number: int, slot: Slot, found: Array | int) -> TokenEvent:
        """The slot's next token, from its logits unless it is one; after the last it is free."""
        request = slot.request
        if np.ndim(found) == 0:
            token = check_token(int(found), self._session.vocab_size)
        else:
            token = sample(np.asarray(found), request.sampling, slot.rng)
        self._tokens[number] = token
        slot.num_new += 1
        reason: FinishReason | None = None
        if token in request.stop_ids:
            reason = "stop"
        elif slot.num_new == request.max_new_tokens:
            reason = "length"
        if reason is not None:
            self._slots[number] = None
            self._tokens[number] = self._positions[number] = 0
            self._in_flight.remove(request.request_id)
        return TokenEvent(
            request_id=request.request_id,
            token_id=token,
            index=slot.num_new - 1,
            time_ns=time.perf_counter_ns(),
            finish_reason=reason,
        )

    def _record(
        self,
        phase: StepPhase,
        bucket: int,
        active: Sequence[tuple[int, Slot]],
        num_tokens: int,
        start_ns: int,
    ) -> None:
        self._end_ns = end_ns = time.perf_counter_ns()
        if self._on_step is not None:
            self._on_step(
                StepRecord(
                    phase=phase,
                    bucket=bucket,
                    slots=tuple(number for number, _ in active),
                    request_ids=tuple(slot.request.request_id for _, slot in active),
                    num_tokens=num_tokens,
                    start_ns=start_ns,
                    end_ns=end_ns,
                )
            )
