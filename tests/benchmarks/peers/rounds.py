"""All engines in turn, in another order every round."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.benchmarks.peers.processes import Outcome

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One thing to measure; 0 threads leave their number to the engine."""

    engine: str
    dtype: str
    threads: int


Rounds = list[dict[Cell, Outcome]]


def shuffled_orders(things: Sequence[T], rounds: int, seed: int) -> list[list[T]]:
    """An order of ``things`` for every round."""
    dice = random.Random(seed)
    return [dice.sample(list(things), len(things)) for _ in range(rounds)]


def run_rounds(
    cells: Sequence[Cell],
    run: Callable[[Cell], Outcome],
    *,
    rounds: int,
    seed: int,
    tell: Callable[[str], None],
    keep: Callable[[Rounds], object],
) -> Rounds:
    """Every cell once a round; one that fails is told, tried again next round, and stops nobody."""
    found: Rounds = []
    for number, order in enumerate(shuffled_orders(cells, rounds, seed), start=1):
        outcomes = {}
        for cell in order:
            outcomes[cell] = outcome = run(cell)
            if outcome.result is None:
                tell(f"round {number}: {cell.engine} {cell.dtype} failed: {outcome.reason}")
        found.append(outcomes)
        keep(found)  # a run that is stopped loses no more than a round
        tell(f"round {number} of {rounds} done")
    return found
