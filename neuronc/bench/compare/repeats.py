"""How many more runs might turn INCONCLUSIVE into an answer."""

from bisect import bisect_left
from dataclasses import dataclass
from math import sqrt

from neuronc.bench.compare.welch import Difference, margin

CAP = 100
"""More runs than this are not worth a number: the spread is not known that well."""

_LIKELY, _EVEN = 0.8, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class MoreRepeats:
    """More runs of A and of B, each; None where `CAP` would not do.

    Attributes:
        likely: Enough with a chance of 0.8 by the reckoning of `more_repeats`.
        even: Enough with a chance of 0.5.
    """

    likely: int | None
    even: int | None

    @property
    def text(self) -> str:
        """As a clause after "needs"."""
        if self.likely is None:
            return f"more than {CAP} more repeats of each, or a limit farther from the ratio"
        several = "repeat" if self.likely == 1 else "repeats"
        odds = "enough in most cases"
        if self.even is not None and self.even < self.likely:
            odds += f", {self.even} in about half of them"
        return f"about {self.likely} more {several} of each ({odds})"


def more_repeats(
    difference: Difference, limit: float, *, level_of_fail: float, level_of_pass: float
) -> MoreRepeats:
    """The smallest numbers of further runs for those chances of FAIL or PASS.

    Neither the true difference nor the spread is known: where the mean will be after k more runs
    has Student's distribution around where it is, with the variance that is left to come off. So
    the answer allows for the estimate moving, to the limit as well as away from it.

    It does not know how far apart two builds usually are, so it is bold where the spread is large:
    with true slowdowns from 0 to 10 % and a limit of 5 %, ``likely`` did in 78 % of the cases for
    an sd of 2 % and 3 repeats, in 70 % for 3 % and 3, in 75 % for 3 % and 5, and in 62 % for 5 %
    and 5 (1500 simulations each).

    Args:
        difference: With more being worse, see `Difference.towards`.
        limit: On the same side.
        level_of_fail: Of the bound that can fail, after Holm's correction.
        level_of_pass: Of the bound that can pass.
    """

    def chance(more: int) -> float:
        later = difference.with_repeats(more)
        fails = limit + margin(later, level_of_fail)
        passes = limit - margin(later, level_of_pass)
        return _chance_to_decide(difference, later, fails, passes)

    def first(wanted: float) -> int | None:  # the chance grows with the number of runs
        more = bisect_left(range(1, CAP + 1), wanted, key=chance) + 1
        return more if more <= CAP else None

    return MoreRepeats(likely=first(_LIKELY), even=first(_EVEN))


def _chance_to_decide(now: Difference, later: Difference, fails: float, passes: float) -> float:
    """P that the later mean lies above ``fails`` or below ``passes``."""
    from neuronc.bench.compare.student_t import upper_tail

    moving = sqrt(max(now.standard_error**2 - later.standard_error**2, 0.0))
    if moving == 0:
        return float(now.mean > fails or now.mean < passes)
    above = upper_tail((fails - now.mean) / moving, now.df)
    below = upper_tail((now.mean - passes) / moving, now.df)
    return above + below
