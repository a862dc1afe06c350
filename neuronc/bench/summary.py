"""Many samples to a few numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Mean, percentiles and maximum of ``n`` samples, in the samples' unit."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """The same numbers by name."""
        return asdict(self)


def summarize(values: Sequence[float]) -> Summary | None:
    """Summary of ``values``; percentiles interpolate linearly between ranks. None if empty."""
    if not values:
        return None
    p50, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99]).tolist()
    mean, largest = float(np.mean(values)), float(max(values))
    return Summary(mean=mean, p50=p50, p90=p90, p95=p95, p99=p99, max=largest, n=len(values))
