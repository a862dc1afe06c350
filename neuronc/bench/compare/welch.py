"""How far B is from A, and how sure that is: Welch's t on the logarithms of whole runs.

Runs, not requests or tokens, are the samples: those inside one run share its luck. Logarithms,
because times are multiplied by what disturbs them; the difference of the means is the logarithm of
the ratio of the geometric means.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log, sqrt
from statistics import fmean, variance


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """log(B / A) with the standard error that the spread between runs gives it.

    Attributes:
        variance_a: Between the runs of A, of the logarithm; per run, not of the mean.
        df: Degrees of freedom after Welch and Satterthwaite; infinite without any spread.
    """

    mean: float
    standard_error: float
    df: float
    variance_a: float
    variance_b: float
    n_a: int
    n_b: int

    def towards(self, worse: int) -> "Difference":
        """The same with its sign turned where ``worse`` is -1, so that more is worse."""
        return replace(self, mean=worse * self.mean)

    def with_repeats(self, more: int) -> "Difference":
        """What ``more`` runs of each would give, were mean and spread to stay as they are."""
        return difference_of(
            self.mean, self.variance_a, self.variance_b, self.n_a + more, self.n_b + more
        )


def compare_logs(values_a: Sequence[float], values_b: Sequence[float]) -> Difference:
    """The difference of two samples of positive numbers, each of at least 2."""
    logs_a, logs_b = [log(v) for v in values_a], [log(v) for v in values_b]
    return difference_of(
        fmean(logs_b) - fmean(logs_a), variance(logs_a), variance(logs_b), len(logs_a), len(logs_b)
    )


def difference_of(
    mean: float, variance_a: float, variance_b: float, n_a: int, n_b: int
) -> Difference:
    """A `Difference` from its moments."""
    part_a, part_b = variance_a / n_a, variance_b / n_b
    squares = part_a**2 / (n_a - 1) + part_b**2 / (n_b - 1)
    return Difference(
        mean=mean,
        standard_error=sqrt(part_a + part_b),
        df=(part_a + part_b) ** 2 / squares if squares > 0 else inf,
        variance_a=variance_a,
        variance_b=variance_b,
        n_a=n_a,
        n_b=n_b,
    )


def chance_beyond(difference: Difference, limit: float) -> float:
    """P of a mean this far above ``limit`` or farther where the true difference is ``limit``."""
    from neuronc.bench.compare.student_t import upper_tail

    distance, error = difference.mean - limit, difference.standard_error
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return upper_tail(distance / error, difference.df)


def margin(difference: Difference, alpha: float) -> float:
    """How far a one-sided bound of level ``alpha`` lies from the mean."""
    from neuronc.bench.compare.student_t import upper_quantile

    error = difference.standard_error
    return error * upper_quantile(alpha, difference.df) if error > 0 else 0.0
