"""Many samples to percentiles with intervals, a curve and a histogram."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.bench.statistics.histogram import Histogram, make_histogram
from neuronc.bench.statistics.quantiles import (
    order_statistic_ranks,
    samples_needed,
    samples_needed_above,
)

CONFIDENCE = 0.95
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
MAX_CURVE_POINTS = 200
_EVEN_POINTS = 91  # 0, 0.01, ... 0.9; the others lie even in log-nines beyond

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentile:
    """One percentile, in the samples' unit.

    Attributes:
        value: By linear interpolation between ranks; None where it falls among failures.
        low: Lower end of the two-sided order-statistic interval; None together with ``high``.
        high: Upper end.
        reason: Why something is None.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """Samples at a glance, in their unit.

    Attributes:
        n: Samples, without failures.
        sd: Sample standard deviation (n - 1); None for one sample.
        percentiles: By name, see `PERCENTILES`.
        curve: (q, value) from the minimum to the maximum, or to where failures begin.
        failures: Counted in percentiles and curve as values above every sample; mean, sd, min,
            max and histogram are of the samples alone.
    """

    n: int
    mean: float
    sd: float | None
    min: float
    max: float
    percentiles: dict[str, Percentile]
    curve: tuple[tuple[float, float], ...]
    histogram: Histogram
    failures: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As `Distribution` in the document; ``failures`` only where there are any."""
        return {
            "n": self.n,
            "mean": self.mean,
            "sd": self.sd,
            "min": self.min,
            "max": self.max,
            "percentiles": {
                name: {"value": p.value, "low": p.low, "high": p.high, "reason": p.reason}
                for name, p in self.percentiles.items()
            },
            "curve": [list(point) for point in self.curve],
            "histogram": {
                "edges": list(self.histogram.edges),
                "counts": list(self.histogram.counts),
            },
            **({"failures": self.failures} if self.failures else {}),
        }


def describe(values: Sequence[float] | FloatArray, *, failures: int = 0) -> Distribution | None:
    """Describe ``values``, one per sample, and ``failures`` that took longer than any; None if empty.

    The intervals hold for any distribution of independent samples. Samples that hang together
    (gaps of one request) have less to say than their number: see `bootstrap`.

    Raises:
        ValueError: A value is not finite.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0:
        return None
    if not np.isfinite(ordered).all():
        message = "samples have to be finite; count what failed in failures"
        raise ValueError(message)
    return Distribution(
        n=int(ordered.size),
        mean=float(ordered.mean()),
        sd=float(ordered.std(ddof=1)) if ordered.size > 1 else None,
        min=float(ordered[0]),
        max=float(ordered[-1]),
        percentiles={name: percentile(ordered, q, failures) for name, q in PERCENTILES.items()},
        curve=_curve(ordered, failures),
        histogram=make_histogram(ordered),
        failures=failures,
    )


def percentile(ordered: FloatArray, q: float, failures: int = 0) -> Percentile:
    """The percentile ``q`` in 0..1 of ascending ``ordered`` followed by ``failures``."""
    n = ordered.size + failures
    value = interpolate(ordered, np.array([q]), n)[0]
    if not np.isfinite(value):
        reason = f"falls among the {failures} failed of {n}"
        return Percentile(value=None, low=None, high=None, reason=reason)
    ranks = order_statistic_ranks(n, q, CONFIDENCE)
    if ranks is None:
        return Percentile(value=float(value), low=None, high=None, reason=_too_few(n, q))
    if ranks[1] > ordered.size:
        reason = f"the interval's upper end falls among the {failures} failed of {n}"
        return Percentile(value=float(value), low=None, high=None, reason=reason)
    low, high = (float(ordered[rank - 1]) for rank in ranks)
    return Percentile(value=float(value), low=low, high=high, reason=None)


def interpolate(ordered: FloatArray, qs: FloatArray, n: int) -> FloatArray:
    """Values at quantiles ``qs`` of ``ordered`` and what is missing to ``n`` as +inf.

    Linear between ranks: position ``(n - 1) q``, as numpy's default.
    """
    places = qs * (n - 1)
    lower = np.floor(places + 1e-9).astype(np.int64)  # 0.9 * 10 is 9, whatever the rounding
    share = np.clip(places - lower, 0.0, 1.0)
    share[share < 1e-9] = 0.0
    upper = np.where(share > 0, lower + 1, lower)
    last = ordered.size - 1
    below, above = ordered[np.minimum(lower, last)], ordered[np.minimum(upper, last)]
    return np.where(upper > last, np.inf, below + share * (above - below))


def _too_few(n: int, q: float) -> str:
    both, above = samples_needed(q, CONFIDENCE), samples_needed_above(q, CONFIDENCE)
    return (
        f"a {CONFIDENCE:.0%} interval of p{100 * q:g} needs {both} samples "
        f"(an upper bound alone {above}); there are {n}"
    )


def _curve(ordered: FloatArray, failures: int) -> tuple[tuple[float, float], ...]:
    """At most `MAX_CURVE_POINTS`: every sample where they are few, else denser towards q = 1."""
    n = ordered.size + failures
    if n <= MAX_CURVE_POINTS:
        qs = np.arange(n) / max(n - 1, 1)
    else:
        nines = np.linspace(1, np.log10(n), MAX_CURVE_POINTS - _EVEN_POINTS)[1:]
        qs = np.concatenate([np.linspace(0, 0.9, _EVEN_POINTS), 1 - 10.0**-nines, [1.0]])
    values = interpolate(ordered, qs, n)
    kept = np.isfinite(values)
    return tuple(zip(qs[kept].tolist(), values[kept].tolist(), strict=True))
