"""How often chance alone deals two samples so unequally: for numbers that lie on a coarse grid.

Student's t takes the logarithms for normal. The largest load that is good enough is one of the few
that were tried, and five repeats of it may be four and one by luck: Welch's test then fails up to
6 % of the pairs that are the same. Exchanging the labels is exact whatever the distribution.
"""

from collections import Counter
from collections.abc import Sequence
from math import comb, log

_DIGITS = 9  # sums of the same loads in another order are equal


def chance_of_labels(values_a: Sequence[float], values_b: Sequence[float], *, worse: int) -> float:
    """P of a sum of B's logarithms at least so much ``worse`` (1: larger, -1: smaller).

    All ways to deal the pooled values to A and B are equally likely where neither is worse.
    """
    logs = [worse * log(value) for value in (*values_a, *values_b)]
    observed = round(sum(logs[len(values_a) :]), _DIGITS)
    ways: Counter[tuple[int, float]] = Counter({(0, 0.0): 1})  # values of B so far, and their sum
    for value in logs:
        taken = {(n + 1, round(s + value, _DIGITS)): count for (n, s), count in ways.items()}
        ways.update(taken)
    extreme = sum(
        count
        for (number, total), count in ways.items()
        if number == len(values_b) and total >= observed - 10.0**-_DIGITS * len(logs)
    )
    return extreme / comb(len(logs), len(values_b))
