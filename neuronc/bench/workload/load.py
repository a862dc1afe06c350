"""When requests are sent: a closed loop, an open one, or all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuronc.bench.workload.arrivals import POISSON, Arrival
from neuronc.bench.workload.shapes import RequestShape
from neuronc.errors import InputError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """When requests are sent.

    Attributes:
        concurrency: Of a closed loop: so many are in flight, the next follows when one ends.
        rate: Of an open loop: requests per second, whatever the engine does.
        arrival: Of an open loop: the process; None for the trace's own times, which ``rate``
            stretches where it is given.

    With neither, all requests arrive at once.
    """

    concurrency: int | None = None
    rate: float | None = None
    arrival: Arrival | None = POISSON

    def __post_init__(self) -> None:
        if self.rate is not None and self.concurrency is not None:
            message = f"rate={self.rate} and concurrency={self.concurrency} contradict each other"
            raise UsageError(message, hint="a rate fixes the arrivals; give only one of the two")
        if self.rate is not None and not (0 < self.rate < float("inf")):
            message = f"rate={self.rate} is not a positive number of requests per second"
            raise UsageError(message, hint="leave the rate out to keep a fixed concurrency")

    def times_s(self, shapes: Sequence[RequestShape], seed: int) -> tuple[float | None, ...]:
        """When each arrives, from the run's start; None in a closed loop.

        Raises:
            InputError: the trace's own times are wanted, and it has none.
        """
        if self.concurrency is not None:
            return (None,) * len(shapes)
        if self.arrival is None:
            return _own_times_s(shapes, self.rate)
        if self.rate is None:
            return (0.0,) * len(shapes)
        return tuple(self.arrival.times_s(len(shapes), self.rate, seed))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        name = "trace" if self.arrival is None else str(self.arrival)
        if self.concurrency is not None:
            name = "closed"
        elif self.rate is None and self.arrival is not None:
            name = "at once"
        return {"arrival": name, "rate": self.rate, "concurrency": self.concurrency}


def _own_times_s(shapes: Sequence[RequestShape], rate: float | None) -> tuple[float, ...]:
    times_s = [shape.arrival_s for shape in shapes]
    known_s = [time_s for time_s in times_s if time_s is not None]
    if len(known_s) < len(times_s):
        message = "--arrival trace takes the workload's own arrival times, and it has none"
        raise InputError(message, hint="give every line an arrival_s, or use --rate with poisson")
    span_s = max(known_s) - min(known_s)
    if rate is not None and span_s == 0:
        message = f"--rate {rate:g} would stretch the trace's arrivals, which are all at one time"
        raise InputError(message, hint="leave out --rate, or --arrival trace")
    scale = 1.0 if rate is None else (len(known_s) - 1) / rate / span_s
    return tuple(time_s * scale for time_s in known_s)
