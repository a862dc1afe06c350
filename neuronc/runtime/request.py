"""What is asked of the engine, and what it answers."""

from dataclasses import dataclass, field
from typing import Literal

from neuronc.trace.program_spec import StepPhase

FinishReason = Literal["stop", "length"]

PrefillPolicy = Literal["first", "alternate", "drain"]
"""When a waiting prompt gets its prefill, while other slots decode.

``first``: at once, chunk after chunk: the shortest TTFT, and decode waits for the whole prompt.
``alternate``: a decode step after every chunk: no token waits for more than one chunk.
``drain``: when no slot decodes: no token ever waits for a prompt, and freed slots stay idle.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How the next token is chosen from the logits.

    Attributes:
        temperature: 0 takes the most likely token; otherwise logits are divided by it.
        top_k: Keep only the k most likely tokens; 0 keeps all.
        top_p: Keep the fewest most likely tokens whose probabilities add up to this.
        seed: Of this request's own random stream; the same seed and prompt give the same answer.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A prompt to complete; ``stop_ids`` end it early and are not part of the answer."""

    request_id: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEvent:
    """One token of one request, ``index`` counted from 0; ``time_ns`` of `time.perf_counter_ns`.

    ``finish_reason`` is set on a request's last event. A stop token's event carries its id.
    """

    request_id: str
    token_id: int
    index: int
    time_ns: int
    finish_reason: FinishReason | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One run of one executable: from the call until its logits are on the host.

    Attributes:
        phase: ``prefill`` or ``decode``.
        bucket: Of the program that ran.
        slots: Whose result was wanted.
        request_ids: Of the requests in them, in the same order.
        num_tokens: Tokens processed for requests; padding does not count.
        start_ns: `time.perf_counter_ns` before the call; of a decode step that was started ahead,
            when the one before it ended.
        end_ns: The same after the logits arrived.
    """

    phase: StepPhase
    bucket: int
    slots: tuple[int, ...]
    request_ids: tuple[str, ...]
    num_tokens: int
    start_ns: int
    end_ns: int

    @property
    def active_slots(self) -> int:
        """How many slots' results were wanted."""
        return len(self.slots)
