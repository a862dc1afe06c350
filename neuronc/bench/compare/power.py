"""How often a regression is found: the power of one rule, by repeats and spread between runs.

Chance of FAIL in percent, with the sd of whole runs (of the logarithm, the same for A and B), for
one rule alone and for the worst case of three, where only that rule's metric got slower and Holm's
correction asks for the full certainty; where all three do, it lies between.

                          one rule: sd 1 %  2 %  3 %      one of three: sd 1 %  2 %  3 %
    +10 % against >+5 %
            3 repeats               99   69   41                       89   36   17
            5 repeats              100   95   71                      100   82   46
           10 repeats              100  100   95                      100  100   86
    +3 % against >+1 %
            3 repeats               56   22   14                       26    7    4
            5 repeats               87   39   23                       67   19   10
           10 repeats               99   68   40                       97   46   22

So 3 % takes repeats within about 1 % of each other. `tests/unit/bench/compare` holds these numbers
against simulations.
"""

from dataclasses import dataclass
from math import exp, inf, log1p, sqrt

from neuronc.bench.compare.gate import ALPHA, Verdict

REPEATS = (3, 5, 10)
SPREADS = (0.01, 0.02, 0.03)
CASES = ((10.0, 5.0), (3.0, 1.0))
"""A slowdown and the limit that it is held against, percent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """One entry of the table; ``power`` is the chance of FAIL."""

    slowdown_percent: float
    limit_percent: float
    repeats: int
    sd: float
    power: float


def power_of(
    slowdown_percent: float, limit_percent: float, *, repeats: int, sd: float, num_rules: int = 1
) -> float:
    """The chance of FAIL at a true slowdown.

    Args:
        slowdown_percent: Of B, true.
        limit_percent: Of the rule.
        repeats: Of A, and of B.
        sd: Between runs of the same thing, of the logarithm.
        num_rules: Listed, of which only this one sees a slowdown.
    """
    from neuronc.bench.compare.student_t import welch_power

    distance = log1p(slowdown_percent / 100) - log1p(limit_percent / 100)
    shift = distance / (sd * sqrt(2 / repeats))
    return welch_power(shift, ALPHA / num_rules, repeats)


def power_table(num_rules: int) -> tuple[Power, ...]:
    """`power_of` for every case, number of repeats and spread."""
    return tuple(
        Power(
            slowdown_percent=slowdown,
            limit_percent=limit,
            repeats=repeats,
            sd=sd,
            power=power_of(slowdown, limit, repeats=repeats, sd=sd, num_rules=num_rules),
        )
        for slowdown, limit in CASES
        for repeats in REPEATS
        for sd in SPREADS
    )


def detectable_ratio(verdict: Verdict, power: float = 0.8) -> float | None:
    """The true ratio B / A that these many runs, so far apart, fail with chance ``power``.

    None where the rule could not be tested, or there is no spread to reckon with.
    """
    from neuronc.bench.compare.student_t import upper_quantile

    found = verdict.difference
    if found is None or found.df == inf:
        return None
    # The quantiles add up: a close and slightly generous stand-in for the noncentral t.
    needed = upper_quantile(verdict.level, found.df) + upper_quantile(1 - power, found.df)
    return exp(verdict.rule.limit + verdict.rule.worse * needed * found.standard_error)
