"""Which requests a benchmark makes, and when: the same settings give the same ones everywhere."""

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from neuronc.errors import PlanError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Settings of a run; every request has the same lengths and no stop token ends it early.

    Attributes:
        prompt_tokens: Tokens of each prompt.
        new_tokens: Tokens generated for each request, exactly.
        num_requests: Timed requests.
        concurrency: Requests in flight in a closed loop; None for the artifact's batch size.
        rate: Requests per second of an open loop (Poisson arrivals); None for a closed loop.
        seed: Seeds prompts and arrivals.
        warmup_requests: Untimed requests of the same shape, after every program ran once.

    Raises:
        UsageError: A setting out of its range, or ``rate`` together with ``concurrency``.
    """

    prompt_tokens: int = 128
    new_tokens: int = 64
    num_requests: int = 16
    concurrency: int | None = None
    rate: float | None = None
    seed: int = 0
    warmup_requests: int = 2

    def __post_init__(self) -> None:
        least = {"prompt_tokens": 1, "new_tokens": 1, "num_requests": 1, "concurrency": 1}
        for name, lowest in (least | {"seed": 0, "warmup_requests": 0}).items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                message = f"workload {name}={value} is below the lowest possible value, {lowest}"
                raise UsageError(message, hint=f"choose {name} >= {lowest}")
        if self.rate is None:
            return
        if not (math.isfinite(self.rate) and self.rate > 0):
            message = f"workload rate={self.rate} is not a positive number of requests per second"
            raise UsageError(message, hint="leave the rate out to keep a fixed concurrency")
        if self.concurrency is not None:
            message = f"rate={self.rate} and concurrency={self.concurrency} contradict each other"
            raise UsageError(message, hint="a rate fixes the arrivals; give only one of the two")


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedRequest:
    """One request to make; ``arrival_s`` counts from the start of the run, None in a closed loop."""

    request_id: str
    prompt_ids: tuple[int, ...]
    new_tokens: int
    arrival_s: float | None = None


def fit_workload(workload: Workload, *, batch_size: int, max_length: int) -> Workload:
    """The workload with its open settings decided for this artifact.

    Raises:
        PlanError: Prompt and new tokens together are longer than ``max_length``.
    """
    needed = workload.prompt_tokens + workload.new_tokens
    if needed > max_length:
        message = (
            f"prompt_tokens={workload.prompt_tokens} + new_tokens={workload.new_tokens} = {needed} "
            f"exceeds the artifact's max_length={max_length}"
        )
        hint = f"keep the sum at or below {max_length}, or compile with --max-length {needed}"
        raise PlanError(message, hint=hint)
    if workload.rate is None and workload.concurrency is None:
        return replace(workload, concurrency=batch_size)
    return workload


def named_stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every name, so that no draw shifts another stream."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))
    return np.random.Generator(np.random.PCG64(sequence))


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


def arrival_times_s(workload: Workload) -> tuple[float | None, ...]:
    """When each request arrives, from the first one's arrival: exponential gaps of mean 1/rate.

    The times are absolute, decided before the run: a late request does not delay the next.
    """
    if workload.rate is None:
        return (None,) * workload.num_requests
    gaps = named_stream(workload.seed, "arrivals").standard_exponential(workload.num_requests - 1)
    return (0.0, *(np.cumsum(gaps) / workload.rate).tolist())


def make_requests(
    workload: Workload, vocab_size: int, forbidden_ids: Collection[int] = ()
) -> tuple[TimedRequest, ...]:
    """The timed requests: random prompts without the forbidden ids, with arrivals if open loop.

    Raises:
        PlanError: Every token id is forbidden.
    """
    allowed = allowed_ids(vocab_size, forbidden_ids)
    return tuple(
        TimedRequest(
            request_id=f"request-{i}",
            prompt_ids=random_prompt(workload.seed, f"prompt/{i}", workload.prompt_tokens, allowed),
            new_tokens=workload.new_tokens,
            arrival_s=arrival_s,
        )
        for i, arrival_s in enumerate(arrival_times_s(workload))
    )
