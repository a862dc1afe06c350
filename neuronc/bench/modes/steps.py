"""The mode ``steps``: every program by itself, in rounds of random order."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuronc.bench.engine_protocol import SessionLike
from neuronc.bench.modes.cells import Cell, call_ms
from neuronc.progress import Stage

MIN_ROUNDS, MAX_ROUNDS = 5, 30


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredCell:
    """A cell and the milliseconds of its calls, in the order they were made."""

    cell: Cell
    calls_ms: tuple[float, ...]


def measure_steps(
    session: SessionLike,
    cells: Sequence[Cell],
    allowed: np.ndarray,
    *,
    budget_s: float,
    seed: int,
    stage: Stage,
) -> tuple[MeasuredCell, ...]:
    """Call each of ``cells`` once a round, the rounds in random order, while ``budget_s`` lasts.

    What the machine does in a bad second is then shared by all cells. At least `MIN_ROUNDS`.
    """
    calls: dict[Cell, list[float]] = {cell: [] for cell in cells}
    order, shuffled = random.Random(seed), list(cells)
    begin_s, rounds = time.monotonic(), 0
    while rounds < MIN_ROUNDS or (
        rounds < MAX_ROUNDS and time.monotonic() - begin_s < budget_s * (1 - 1 / (rounds + 1))
    ):
        order.shuffle(shuffled)
        for cell in shuffled:
            calls[cell].append(call_ms(session, cell, allowed))
        rounds += 1
        stage.advance(1, note=f"round {rounds}")
    return tuple(MeasuredCell(cell=cell, calls_ms=tuple(found)) for cell, found in calls.items())
