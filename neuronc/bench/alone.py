"""What an artifact answers one request at a time: before a timed run, not timed, to hold it against.

The same programs, slot 0, nobody in the other slots, and no engine: a request that got another
one's slot, position or cache in a timed run has other tokens.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuronc.bench.engine_protocol import SessionLike
from neuronc.bench.workload.requests import TimedRequest
from neuronc.errors import BenchmarkError
from neuronc.progress import Stage

Prompt = tuple[int, ...]
SHARE = 0.1
"""Of the time budget, that answering alone may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alone:
    """The greedy answer to one prompt.

    Attributes:
        token_ids: Up to a stop token, which is one of them.
        near_ties: Indices in ``token_ids`` where the two likeliest were as near as verification
            lets logits be off: another program may round the other way. None if no verification
            says how far that is.
    """

    token_ids: tuple[int, ...]
    near_ties: frozenset[int] | None


def prompts_of(runs: Iterable[Sequence[TimedRequest]]) -> dict[Prompt, int]:
    """Every prompt of ``runs`` with its longest answer: first ones of all runs before second ones."""
    found: dict[Prompt, int] = {}
    ordered = [(number, request) for requests in runs for number, request in enumerate(requests)]
    for _, request in sorted(ordered, key=lambda pair: pair[0]):
        prompt = request.prompt_ids
        found[prompt] = max(request.new_tokens, found.get(prompt, 0))
    return found


def answer_alone(
    session: SessionLike,
    wanted: Mapping[Prompt, int],
    *,
    stop_ids: frozenset[int],
    allowed: float | None,
    budget_s: float,
    stage: Stage,
) -> dict[Prompt, Alone]:
    """Answer prompts in their order until ``budget_s`` is spent; the KV caches are overwritten.

    Args:
        session: An open artifact that nothing else uses.
        wanted: How many tokens of each prompt's answer.
        stop_ids: What ends an answer early.
        allowed: The largest relative error of logits that verification allows.
        budget_s: No answer begins that would, at the pace so far, end beyond it.
        stage: Advances by one for each prompt.

    Raises:
        BenchmarkError: Logits are not finite.
    """
    answers: dict[Prompt, Alone] = {}
    begin_s, done = time.monotonic(), 0
    for prompt, count in wanted.items():
        spent_s, size = time.monotonic() - begin_s, len(prompt) + count
        if spent_s + (spent_s * size / done if done else 0.0) >= budget_s:
            break
        answers[prompt] = _answer(session, prompt, count, stop_ids, allowed)
        done += size
        stage.advance(1)
    return answers


def _answer(
    session: SessionLike,
    prompt: Prompt,
    count: int,
    stop_ids: frozenset[int],
    allowed: float | None,
) -> Alone:
    logits, done = np.empty(0), 0
    while done < len(prompt):
        start, done = session.next_chunk(done, len(prompt))
        logits = session.prefill(0, prompt[start:done], start=start)
    tokens = np.zeros(session.batch_size, dtype=np.int32)
    positions = np.zeros(session.batch_size, dtype=np.int32)
    answer: list[int] = []
    near: set[int] = set()
    while True:
        token, gap = _best(logits)
        if allowed is not None and gap <= 2 * allowed:
            near.add(len(answer))
        answer.append(token)
        if len(answer) == count or token in stop_ids:
            return Alone(
                token_ids=tuple(answer), near_ties=None if allowed is None else frozenset(near)
            )
        tokens[0], positions[0] = token, len(prompt) + len(answer) - 1
        bucket = session.decode_bucket(int(positions[0]))
        logits = session.decode(tokens, positions, bucket=bucket)[0]


def _best(logits: np.ndarray) -> tuple[int, float]:
    """The most likely token, and how far ahead it is, over the largest logit's size."""
    scores = np.asarray(logits, dtype=np.float32)
    best = int(np.argmax(scores))
    if not np.isfinite(scores).all():
        message = f"logits of a request that ran alone are not finite: {scores[best]}"
        raise BenchmarkError(message, hint="run `neuronc verify` on the artifact")
    if scores.size == 1:
        return best, np.inf
    second = float(np.partition(scores, -2)[-2])
    scale = float(np.abs(scores).max())
    return best, (float(scores[best]) - second) / scale if scale else 0.0
