"""A slot while a request lives in it, and what a request has to be to get one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.errors import PlanError, UsageError
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session


@dataclass(slots=True)
class Slot:
    """A request while it lives in a slot; ``num_cached`` tokens of its prompt are in the cache."""

    request: Request
    rng: np.random.Generator
    num_cached: int = 0
    num_new: int = 0

    @property
    def is_prefilled(self) -> bool:
        """Whether it decodes."""
        return self.num_cached == len(self.request.prompt_ids)


@dataclass(frozen=True, slots=True)
class Started:
    """A decode step that runs.

    Attributes:
        tokens: On their way, see `Session.start_decode`.
        bucket: Of the program.
        active: Slots whose tokens are wanted, by their numbers.
        begin_ns: `time.perf_counter_ns` before the call.
    """

    tokens: Any
    bucket: int
    active: tuple[tuple[int, Slot], ...]
    begin_ns: int


def check_prompt(request: Request, session: Session) -> None:
    """Refuse what the artifact cannot answer.

    Raises:
        PlanError: prompt and answer do not fit the KV cache.
        UsageError: an empty prompt or answer, or a token outside the vocabulary.
    """
    subject, prompt = f"request {request.request_id!r}", request.prompt_ids
    if not prompt or request.max_new_tokens < 1:
        message = (
            f"{subject} has {len(prompt)} prompt tokens and asks for {request.max_new_tokens}"
            " new ones; both must be 1 or more"
        )
        raise UsageError(message, hint="give a prompt and at least 1 new token")
    if len(prompt) + request.max_new_tokens > session.max_length:
        message = (
            f"{subject} needs {len(prompt)} prompt tokens and {request.max_new_tokens} new ones;"
            f" the artifact's max length is {session.max_length}"
        )
        hint = "shorten it, pass a smaller --max-new-tokens, or compile with a larger --max-length"
        raise PlanError(message, hint=hint)
    outside = [token for token in (min(prompt), max(prompt)) if not 0 <= token < session.vocab_size]
    if outside:
        message = (
            f"{subject} has token {outside[0]}, which is outside the vocabulary of"
            f" {session.vocab_size}"
        )
        raise UsageError(message, hint="use the artifact's own tokenizer")
