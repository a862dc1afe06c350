"""What happened during a run, as plain numbers: the input of every metric."""

from dataclasses import dataclass
from typing import Literal

from neuronc.bench.engine_protocol import StepLike

Finish = Literal["length", "stop", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """One request; all times from one monotonic clock.

    Attributes:
        prompt_tokens: Of its prompt.
        new_tokens: Asked for.
        sched_ns: Its scheduled arrival in an open loop; in a closed loop, which schedules nothing,
            when it was sent. Latencies count from here, so waiting for a busy engine counts.
        send_ns: When the engine was given it; None if the run ended before.
        token_times_ns: When each of its tokens could be read, in order.
        token_ids: Those tokens.
        finish: How it ended: at its length, at a stop token, or not in time.
    """

    request_id: str
    prompt_tokens: int
    new_tokens: int
    sched_ns: int
    send_ns: int | None
    token_times_ns: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish: Finish

    @property
    def is_done(self) -> bool:
        """Whether it got all that was asked for."""
        return self.finish != "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the system had counted for this process, all threads, when a step had ended."""

    minor_faults: int
    major_faults: int
    involuntary_switches: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """The timed part of a run.

    Attributes:
        batch_size: Slots of the artifact.
        begin_ns: When the run began: time 0 of the schedule.
        end_ns: When its last request ended, or its time was over.
        requests: In the order of their schedule.
        steps: In the order they ran.
        usage: After each step, and first before any: one more than steps. Empty if not counted.
        collections_ns: Begin and end of each garbage collection.
        idle_before: Positions in ``steps`` that came after a wait for the next arrival.
    """

    batch_size: int
    begin_ns: int
    end_ns: int
    requests: tuple[RequestRecord, ...]
    steps: tuple[StepLike, ...]
    usage: tuple[Usage, ...] = ()
    collections_ns: tuple[tuple[int, int], ...] = ()
    idle_before: frozenset[int] = frozenset()

    @property
    def done(self) -> tuple[RequestRecord, ...]:
        """The requests that got all they asked for."""
        return tuple(request for request in self.requests if request.is_done)

    @property
    def num_failed(self) -> int:
        """The others."""
        return len(self.requests) - len(self.done)
