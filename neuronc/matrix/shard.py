"""Which cells of a file are built here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from neuronc.errors import UsageError
from neuronc.matrix.cells import Cell

_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Part ``number`` of ``count`` equal ones; the first is 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """``2/8`` -> the second of eight.

    Raises:
        UsageError: it is written otherwise, or there is no such part.
    """
    found = _SHARD.fullmatch(text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        message = f"--shard is {text!r}; expected a part and a number of parts, the first being 1/N"
        raise UsageError(message, hint="write it like --shard 2/8")
    return Shard(number=number, count=count)


def select(
    cells: Sequence[Cell], *, only: Sequence[str] = (), shard: Shard | None = None
) -> tuple[Cell, ...]:
    """The cells to build here, in the order of the file.

    ``shard`` deals the cells out by name, so that the parts differ by one cell at most, do not
    depend on the order in the file, and are every cell once when put together.

    Raises:
        UsageError: no cell has a name of ``only``.
    """
    known = sorted(cell.name for cell in cells)
    for name in only:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            message = f"--only {name}: the file has no build of that name"
            hint = f"did you mean {near[0]!r}?" if near else f"builds: {', '.join(known[:20])}"
            raise UsageError(message, hint=hint)
    chosen = [name for name in known if not only or name in only]
    if shard is not None:
        chosen = chosen[shard.number - 1 :: shard.count]
    return tuple(cell for cell in cells if cell.name in chosen)
