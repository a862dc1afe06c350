"""Holm's correction: several rules, and still at most one chance in 20 of any false alarm."""

from collections.abc import Sequence


def holm_levels(chances: Sequence[float], alpha: float) -> list[float]:
    """The level that each hypothesis is tested at; one is rejected iff its chance is not above it.

    The smallest of m chances must be within alpha / m, the next within alpha / (m - 1), and so on
    until one is not: from there on the level stays, so all the others are kept.
    """
    order = sorted(range(len(chances)), key=lambda number: chances[number])
    levels = [0.0] * len(chances)
    left, stopped = len(chances), False
    for number in order:
        levels[number] = alpha / left
        stopped = stopped or chances[number] > levels[number]
        left -= 0 if stopped else 1
    return levels


def holm_adjusted(chances: Sequence[float]) -> list[float]:
    """Chances to hold against alpha itself: the usual way to print them."""
    order = sorted(range(len(chances)), key=lambda number: chances[number])
    adjusted, largest = [0.0] * len(chances), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - rank) * chances[number]))
        adjusted[number] = largest
    return adjusted
