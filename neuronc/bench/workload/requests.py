"""Requests with token ids, ready to be sent: nothing is drawn once the run has begun."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from neuronc.bench.workload.load import Load
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.streams import named_stream
from neuronc.bench.workload.workload import Workload
from neuronc.errors import PlanError


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedRequest:
    """One request to make; ``arrival_s`` counts from the start of the run, None in a closed loop."""

    request_id: str
    prompt_ids: tuple[int, ...]
    new_tokens: int
    arrival_s: float | None = None


def allowed_ids(vocab_size: int, forbidden_ids: Collection[int]) -> np.ndarray:
    """Token ids a prompt may hold, int64, ascending.

    Raises:
        PlanError: Every id is forbidden.
    """
    allowed = np.setdiff1d(np.arange(vocab_size), np.array(sorted(forbidden_ids), dtype=np.int64))
    if allowed.size == 0:
        message = (
            f"no token id is left for prompts: all {vocab_size} of the vocabulary are forbidden"
        )
        raise PlanError(message, hint="forbid special tokens only")
    return allowed


def random_prompt(seed: int, name: str, length: int, allowed: np.ndarray) -> tuple[int, ...]:
    """``length`` ids drawn uniformly from ``allowed``, from the stream called ``name``."""
    return tuple(named_stream(seed, name).choice(allowed, size=length).tolist())


def make_requests(
    workload: Workload,
    load: Load,
    shapes: Sequence[RequestShape],
    allowed: np.ndarray,
    *,
    known: Sequence[tuple[int, ...]] = (),
) -> tuple[TimedRequest, ...]:
    """The requests of ``shapes``: a prompt for each, and an arrival in an open loop.

    The first ones take their prompts from ``known`` where those are long enough (an artifact's
    record says which tokens follow them), the others are random ids of ``allowed``.
    """
    times_s = load.times_s(shapes, workload.seed)
    requests = []
    for number, (shape, arrival_s) in enumerate(zip(shapes, times_s, strict=True)):
        prompt = known[number][: shape.prompt_tokens] if number < len(known) else ()
        if len(prompt) < shape.prompt_tokens:
            name = f"prompt/{number}"
            prompt = random_prompt(workload.seed, name, shape.prompt_tokens, allowed)
        requests.append(
            TimedRequest(
                request_id=f"request-{number}",
                prompt_ids=prompt,
                new_tokens=shape.new_tokens,
                arrival_s=arrival_s,
            )
        )
    return tuple(requests)
