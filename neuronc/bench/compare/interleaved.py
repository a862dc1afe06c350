"""In which order two artifacts take turns when both are measured in one run."""

import random
from typing import Literal

Side = Literal["A", "B"]


def interleaved_order(num_repeats: int, seed: int) -> tuple[tuple[Side, Side], ...]:
    """``num_repeats`` blocks, in each of which A and B run once; the order inside is random.

    Half of the blocks begin with A (of an odd number, the odd one is drawn), so that a drift of the
    machine, or what the first of a block leaves to the second, hits both sides alike.
    """
    draw = random.Random(f"interleaved {seed}")  # a stream of its own
    first: list[Side] = [draw.choice(("A", "B"))] if num_repeats % 2 else []
    first += ["A", "B"] * (num_repeats // 2)
    draw.shuffle(first)
    return tuple(("A", "B") if side == "A" else ("B", "A") for side in first)
