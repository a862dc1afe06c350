"""What happened during a run, as plain numbers: the input of every metric."""

from dataclasses import dataclass

from neuronc.bench.engine_protocol import StepLike


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """One finished request; all times from one monotonic clock.

    Attributes:
        start_ns: The zero of its latencies: the scheduled arrival in an open loop (so waiting for
            a busy engine counts), the submit in a closed loop.
        submit_ns: When the engine was given it.
        token_times_ns: When each of its tokens could be read, in order.
    """

    request_id: str
    prompt_tokens: int
    start_ns: int
    submit_ns: int
    token_times_ns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The timed part of a run.

    Attributes:
        requests: In the order they were submitted.
        steps: In the order they ran.
        idle_before: Positions in ``steps`` that came after a wait for the next arrival.
    """

    requests: tuple[RequestRecord, ...]
    steps: tuple[StepLike, ...]
    idle_before: frozenset[int] = frozenset()
