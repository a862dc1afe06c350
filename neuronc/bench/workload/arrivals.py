"""When requests arrive in an open loop: absolute times, decided before the run."""

import math
from dataclasses import dataclass

import numpy as np

from neuronc.bench.workload.streams import named_stream
from neuronc.errors import UsageError

FORMS = "poisson, gamma:BURSTINESS, constant or trace"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A renewal process: gaps are gamma distributed with mean 1/rate.

    Attributes:
        burstiness: The gamma's shape: 1 is Poisson, below 1 comes in bursts, above 1 is more even,
            infinity is constant (vLLM's parameter of that name).
    """

    burstiness: float

    def times_s(self, count: int, rate: float, seed: int) -> list[float]:
        """``count`` times from the first arrival's 0, ``rate`` requests per second on average."""
        if math.isinf(self.burstiness):
            return [number / rate for number in range(count)]
        stream = named_stream(seed, "arrivals")
        # The standard draw scaled: another rate stretches the same pattern.
        gaps = stream.standard_gamma(self.burstiness, count - 1) / self.burstiness
        return [0.0, *(np.cumsum(gaps) / rate).tolist()]

    def __str__(self) -> str:
        names = {1.0: "poisson", math.inf: "constant"}
        return names.get(self.burstiness, f"gamma:{self.burstiness:g}")


POISSON = Arrival(1.0)


def parse_arrival(text: str) -> Arrival:
    """The process that ``--arrival`` names.

    Raises:
        UsageError: none of the forms, or a burstiness that is not above 0.
    """
    kind, _, rest = text.strip().partition(":")
    if kind in ("poisson", "constant") and not rest:
        return Arrival(1.0 if kind == "poisson" else math.inf)
    try:
        burstiness = float(rest) if kind == "gamma" else math.nan
    except ValueError:
        burstiness = math.nan
    if not (math.isfinite(burstiness) and burstiness > 0):
        message = f"--arrival is {text!r}; expected {FORMS}, with a burstiness above 0"
        raise UsageError(message, hint="a trace file's own times: --lengths @FILE --arrival trace")
    return Arrival(burstiness)
