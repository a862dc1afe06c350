"""Which tokens the original model says next: what later runs of an artifact are held against.

The artifact's own greedy answers are recorded only where transformers, shown the same tokens, says
the same next one at every position; so they are transformers' greedy answers too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.verify.cases import real_tokens

Array = np.ndarray[Any, Any]

NUM_SEQUENCES = 2
PROMPT_TOKENS, NEW_TOKENS = 128, 32
"""At most; a small artifact has half its length as prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceTokens:
    """One sequence and its successors.

    Attributes:
        tokens: A prompt, then the greedy answer.
        prompt_tokens: How many of them are prompt.
        next_tokens: transformers' most likely token after each of ``tokens`` but the last.
        near_ties: Positions whose two likeliest tokens are as near as verification allows logits
            to be off: there, another token is no error.
    """

    tokens: tuple[int, ...]
    prompt_tokens: int
    next_tokens: tuple[int, ...]
    near_ties: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form, lists and all: what is written is what is read."""
        return {
            "tokens": list(self.tokens),
            "prompt_tokens": self.prompt_tokens,
            "next_tokens": list(self.next_tokens),
            "near_ties": list(self.near_ties),
        }


def record_tokens(
    session: Session,
    truth: Callable[[list[int]], Array],
    weights_dir: Path,
    *,
    allowed: float,
) -> tuple[ReferenceTokens, ...]:
    """What follows `NUM_SEQUENCES` real texts.

    Args:
        session: Of the artifact; its KV caches are overwritten.
        truth: Logits ``[length, vocab]`` f32 of the original model.
        weights_dir: With the tokenizer.
        allowed: The largest relative error of logits that verification allows.
    """
    num_prompt = min(PROMPT_TOKENS, session.max_length // 2)
    num_new = min(NEW_TOKENS, session.max_length - num_prompt)
    text = real_tokens(weights_dir, session.vocab_size)
    prompts = [_cut(text, 37 * number, num_prompt) for number in range(NUM_SEQUENCES)]
    requests = [
        Request(request_id=str(number), prompt_ids=prompt, max_new_tokens=num_new)
        for number, prompt in enumerate(prompts)
    ]
    answers = Engine(session).run(requests)
    return tuple(
        _record(prompt, answers[str(number)], truth, allowed)
        for number, prompt in enumerate(prompts)
    )


def _cut(text: list[int], first: int, length: int) -> tuple[int, ...]:
    return tuple(text[(first + i) % len(text)] for i in range(length))


def _record(
    prompt: tuple[int, ...],
    answer: tuple[int, ...],
    truth: Callable[[list[int]], Array],
    allowed: float,
) -> ReferenceTokens:
    logits = truth([*prompt, *answer[:-1]])
    following = logits.argmax(axis=-1).tolist()
    second, best = np.partition(logits, -2, axis=-1)[:, -2:].T
    near = best - second <= 2 * allowed * np.abs(logits).max(axis=-1)
    agreed = 0  # an answer that leaves transformers' is recorded up to there
    while agreed < len(answer) and following[len(prompt) + agreed - 1] == answer[agreed]:
        agreed += 1
    known = len(prompt) + agreed
    return ReferenceTokens(
        tokens=(*prompt, *answer[:agreed]),
        prompt_tokens=len(prompt),
        next_tokens=tuple(following[:known]),
        near_ties=tuple(int(i) for i in np.flatnonzero(near[:known])),
    )
