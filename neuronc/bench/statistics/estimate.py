"""One metric over repeats of a whole run: its mean, and how far that can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neuronc.bench.statistics.distribution import CONFIDENCE
from neuronc.bench.statistics.quantiles import normal_quantile, student_t_quantile


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A metric over repeats, in its unit.

    Attributes:
        value: Mean of the repeats that define it; None if none does.
        low: Lower end of Student's interval of the mean, not beyond what the metric can be; None
            together with ``high``.
        high: Upper end, likewise.
        n: Repeats that define it.
        relative_half_width: Half of Student's interval over the mean's size, before any end was
            cut; None without an interval, or for a mean of zero.
        reason: Why something is None, which repeats are missing, or where an end was cut.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    confidence: float
    relative_half_width: float | None
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """As `Estimate` in the document."""
        return asdict(self)


MEANT = (
    "Of means over repeats: Student's, mean +- t(n - 1) s / sqrt(n); an end beyond what the metric"
    " can be (below 0; of a share above 1) is cut there, which loses no truth."
)
"""What the document says of these intervals."""


def estimate(
    values: Sequence[float | None],
    *,
    confidence: float = CONFIDENCE,
    least: float | None = None,
    most: float | None = None,
) -> Estimate:
    """Mean and Student's interval ``mean +- t(n - 1) s / sqrt(n)`` of one value per repeat.

    A None (undefined in that repeat) is left out and said so. Repeats are whole runs, so what one
    run's samples have in common does not make the interval too narrow. With few repeats far apart
    it may reach beyond ``least`` and ``most``, where no truth lies; that part is cut off, so it
    covers as often as before, and is said.

    Raises:
        ValueError: A value is not finite, or beyond ``least`` or ``most``.
    """
    found = np.array([value for value in values if value is not None], dtype=np.float64)
    if not np.isfinite(found).all():
        message = "values of repeats have to be finite or None"
        raise ValueError(message)
    off = 1e-9  # of rounding
    if (found < (-math.inf if least is None else least - off)).any() or (
        found > (math.inf if most is None else most + off)
    ).any():
        message = f"values from {found.min()} to {found.max()} of a metric from {least} to {most}"
        raise ValueError(message)
    n, missing = int(found.size), len(values) - int(found.size)
    half = None
    if n > 1:
        t = student_t_quantile((1 + confidence) / 2, n - 1)
        half = float(t * found.std(ddof=1) / math.sqrt(n))
    mean = float(found.mean()) if n else None
    low = None if mean is None or half is None else mean - half
    high = None if mean is None or half is None else mean + half
    cut = _cut(low, high, least, most)
    return Estimate(
        value=mean,
        low=low if low is None or least is None else max(low, least),
        high=high if high is None or most is None else min(high, most),
        n=n,
        confidence=confidence,
        relative_half_width=None if not mean or half is None else half / abs(mean),
        reason="; ".join(filter(None, (_reason(n, missing), cut))) or None,
    )


def _cut(
    low: float | None, high: float | None, least: float | None, most: float | None
) -> str | None:
    told = [
        f"the {name} end, {end:.4g}, was cut at {limit:g}"
        for name, end, limit, is_beyond in (
            ("lower", low, least, low is not None and least is not None and low < least),
            ("upper", high, most, high is not None and most is not None and high > most),
        )
        if is_beyond
    ]
    return f"repeats are too few and too far apart: {' and '.join(told)}" if told else None


def _reason(n: int, missing: int) -> str | None:
    if n == 0:
        return "undefined in every repeat" if missing else "no repeats"
    left_out = f"undefined in {missing} of {n + missing} repeats" if missing else None
    if n == 1:
        alone = "one repeat has no spread to tell an interval from; 2 or more have"
        return f"{left_out}; {alone}" if left_out else alone
    return left_out


@dataclass(frozen=True, kw_only=True, slots=True)
class Attainment:
    """How many of the requests sent were good, with Wilson's interval; None if none were sent."""

    good: int
    sent: int
    attainment: float | None
    low: float | None
    high: float | None
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """The same by name."""
        return asdict(self)


def wilson(good: int, sent: int, *, confidence: float = CONFIDENCE) -> Attainment:
    """The share ``good / sent`` with Wilson's score interval (1927), which is right near 0 and 1.

    Raises:
        ValueError: ``good`` is not in 0..``sent``.
    """
    if not 0 <= good <= sent:
        message = f"expected 0 <= good <= sent, got good={good}, sent={sent}"
        raise ValueError(message)
    if sent == 0:
        return Attainment(
            good=0, sent=0, attainment=None, low=None, high=None, confidence=confidence
        )
    z, share = normal_quantile((1 + confidence) / 2), good / sent
    scale = 1 + z * z / sent
    middle = (share + z * z / (2 * sent)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / sent + z * z / (4 * sent * sent))
    return Attainment(
        good=good,
        sent=sent,
        attainment=share,
        low=0.0 if good == 0 else middle - half,
        high=1.0 if good == sent else middle + half,
        confidence=confidence,
    )
