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
        low: Lower end of Student's interval of the mean; None together with ``high``.
        high: Upper end.
        n: Repeats that define it.
        relative_half_width: Half the interval over the mean's size; None without an interval, or
            for a mean of zero.
        reason: Why something is None, or which repeats are missing.
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


def estimate(values: Sequence[float | None], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean and Student's interval ``mean +- t(n - 1) s / sqrt(n)`` of one value per repeat.

    A None (undefined in that repeat) is left out and said so. Repeats are whole runs, so what one
    run's samples have in common does not make the interval too narrow.

    Raises:
        ValueError: A value is not finite.
    """
    found = np.array([value for value in values if value is not None], dtype=np.float64)
    if not np.isfinite(found).all():
        message = "values of repeats have to be finite or None"
        raise ValueError(message)
    n, missing = int(found.size), len(values) - int(found.size)
    half = None
    if n > 1:
        t = student_t_quantile((1 + confidence) / 2, n - 1)
        half = float(t * found.std(ddof=1) / math.sqrt(n))
    mean = float(found.mean()) if n else None
    return Estimate(
        value=mean,
        low=None if mean is None or half is None else mean - half,
        high=None if mean is None or half is None else mean + half,
        n=n,
        confidence=confidence,
        relative_half_width=None if not mean or half is None else half / abs(mean),
        reason=_reason(n, missing),
    )


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
