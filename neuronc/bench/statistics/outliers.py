"""Values that stand apart: flagged with what to try, never dropped.

The rule is hyperfine's (``src/outlier_detection.rs``): distance from the median in units of the
scaled median absolute deviation, beyond 14.826; a first value so far up is called a slow start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLD = 14.826  # ten raw median absolute deviations times 1.4826, as hyperfine has it
MIN_VALUES = 3  # of two values neither is the odd one
_NORMAL = 1.4826  # scales the median absolute deviation to the sd of a normal distribution
_FLOOR = 0.005  # of the median: nothing within 7 % of it stands apart, however equal the others


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlier:
    """A value that stands apart; ``score`` is its modified z, positive above the median."""

    index: int
    value: float
    score: float


def find_outliers(values: Sequence[float]) -> tuple[Outlier, ...]:
    """Values whose modified z-score ``(x - median) / (1.4826 MAD)`` is beyond `THRESHOLD`.

    The scale is no less than `_FLOOR` of the median: repeats that agree to the last digit would
    else make an outlier of any difference.
    """
    if len(values) < MIN_VALUES:
        return ()
    found = np.asarray(values, dtype=np.float64)
    median = float(np.median(found))
    scale = max(_NORMAL * float(np.median(np.abs(found - median))), _FLOOR * abs(median))
    if scale == 0:
        return ()
    scores = (found - median) / scale
    return tuple(
        Outlier(index=int(i), value=float(found[i]), score=float(scores[i]))
        for i in np.flatnonzero(np.abs(scores) > THRESHOLD)
    )


def outlier_findings(
    values: Sequence[float], *, what: str, unit: str, lower_is_slower: bool = False
) -> tuple[str, ...]:
    """A sentence on a slow first value and one on the others that stand apart; they all count.

    Args:
        values: One per repeat, in the order they ran.
        what: Name of the metric.
        unit: Of ``values``.
        lower_is_slower: For a rate, where a small value is the bad one.
    """
    found = find_outliers(values)
    slow_sign = -1 if lower_is_slower else 1
    slow_first = [o for o in found if o.index == 0 and o.score * slow_sign > 0]
    others = [o for o in found if o not in slow_first]
    median = float(np.median(np.asarray(values))) if found else 0.0
    told = []
    if slow_first:
        told.append(
            f"the first repeat was much slower than the others: {what} {slow_first[0].value:.4g} "
            f"{unit}, median {median:.4g}; it counts all the same; try more warm-up"
        )
    if others:
        each = ", ".join(f"{o.value:.4g} (repeat {o.index + 1})" for o in others)
        told.append(
            f"{len(others)} of {len(values)} repeats stand apart in {what}: {each} {unit}, median "
            f"{median:.4g}; they count all the same; try again on an idle machine, or more repeats"
        )
    return tuple(told)
