"""How many more runs might turn INCONCLUSIVE into an answer."""

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
        likely: Enough in 4 of 5 cases.
        even: Enough in every second case.
    """

    likely: int | None
    even: int | None

    @property
    def text(self) -> str:
        """As a clause after "needs"."""
        if self.likely is None:
            return f"more than {CAP} more repeats of each, or a limit farther from the ratio"
        several = "repeat" if self.likely == 1 else "repeats"
        odds = "4 chances in 5"
        if self.even is not None and self.even < self.likely:
            odds += f", every second chance with {self.even}"
        return f"about {self.likely} more {several} of each ({odds})"


def more_repeats(
    difference: Difference, limit: float, *, level_of_fail: float, level_of_pass: float
) -> MoreRepeats:
    """The smallest numbers of further runs for those chances of FAIL or PASS.

    Neither the true difference nor the spread is known: where the mean will be after k more runs
    has Student's distribution around where it is, with the variance that is left to come off. So
    the answer allows for the estimate moving, to the limit as well as away from it.

    Args:
        difference: With more being worse, see `Difference.towards`.
        limit: On the same side.
        level_of_fail: Of the bound that can fail, after Holm's correction.
        level_of_pass: Of the bound that can pass.
    """
    likely = even = None
    for more in range(1, CAP + 1):
        later = difference.with_repeats(more)
        chance = _chance_to_decide(
            difference,
            later,
            limit + margin(later, level_of_fail),
            limit - margin(later, level_of_pass),
        )
        if even is None and chance >= _EVEN:
            even = more
        if chance >= _LIKELY:
            likely = more
            break
    return MoreRepeats(likely=likely, even=even)


def _chance_to_decide(now: Difference, later: Difference, fails: float, passes: float) -> float:
    """P that the later mean lies above ``fails`` or below ``passes``."""
    from neuronc.bench.compare.student_t import upper_tail

    moving = sqrt(max(now.standard_error**2 - later.standard_error**2, 0.0))
    if moving == 0:
        return float(now.mean > fails or now.mean < passes)
    above = upper_tail((fails - now.mean) / moving, now.df)
    below = upper_tail((now.mean - passes) / moving, now.df)
    return above + below
