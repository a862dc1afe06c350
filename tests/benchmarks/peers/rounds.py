"""All engines in turn, in another order every round."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
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
    orders: Sequence[Sequence[Cell]],
    answers: Mapping[Cell, Callable[[], Outcome]],
    *,
    tell: Callable[[str], None],
) -> Iterator[Rounds]:
    """A round for each of ``orders``; after each, all so far.

    A cell that fails is told, tried again next round, and stops nobody.
    """
    found: Rounds = []
    for number, order in enumerate(orders, start=1):
        outcomes = {}
        for cell in order:
            outcomes[cell] = outcome = answers[cell]()
            if outcome.result is None:
                tell(f"round {number}: {cell.engine} {cell.dtype} failed: {outcome.reason}")
        found.append(outcomes)
        tell(f"round {number} of {len(orders)} done")
        yield list(found)


def beside(rounds: Rounds, others: Rounds) -> Rounds:
    """Rounds of both, the first with the first; where there are fewer, of one."""
    none: dict[Cell, Outcome] = {}
    return [{**one, **other} for one, other in zip_longest(rounds, others, fillvalue=none)]
