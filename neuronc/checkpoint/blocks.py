"""A tensor as blocks of rows, so that memory is a block and not the tensor."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from neuronc.checkpoint.tensor_info import Place, TensorInfo, TensorReader

if TYPE_CHECKING:
    import numpy as np


@runtime_checkable
class RangeReader(TensorReader, Protocol):
    """A `TensorReader` that can read a part of a tensor without the rest."""

    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        """Rows ``start`` to ``stop`` of tensor ``name``, ``[stop - start, ...]``; errors as `read`."""


@runtime_checkable
class PlacedReader(TensorReader, Protocol):
    """A `TensorReader` over local files that hold the values as they are read."""

    def place_of(self, name: str) -> Place | None:
        """Where tensor ``name`` lies; None where it lies in no one place."""


@runtime_checkable
class LocalReader(RangeReader, PlacedReader, Protocol):
    """Both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Consecutive rows of a tensor; a scalar is one block of one row.

    Attributes:
        start: The first row.
        values: ``[rows, ...]``; of a scalar ``[]``.
        place: Where the values lie on the disk, if they do.
    """

    start: int
    values: "np.ndarray[Any, Any]"
    place: Place | None = None


def blocks_of(reader: TensorReader, info: TensorInfo, *, block_bytes: int) -> Iterator[Block]:
    """All rows of ``info``'s tensor in order, about ``block_bytes`` of them at a time.

    A reader that cannot read ranges gives the whole tensor, which is then kept until the last
    block. An empty tensor is one empty block.

    Raises:
        InputError: what `TensorReader.read` refuses.
    """
    step = rows_per_block(info, block_bytes)
    whole_place = reader.place_of(info.name) if isinstance(reader, PlacedReader) else None
    if not info.shape or step >= info.shape[0]:
        yield Block(start=0, values=reader.read(info.name), place=whole_place)
        return
    ranged = reader if isinstance(reader, RangeReader) else None  # asked once: it takes a while
    whole = None if ranged else reader.read(info.name)
    for start in range(0, info.shape[0], step):
        stop = min(start + step, info.shape[0])
        if ranged:
            values = ranged.read_range(info.name, start, stop)
            place = whole_place and replace(
                whole_place, offset=whole_place.offset + start * row_bytes(info)
            )
            yield Block(start=start, values=values, place=place)
        else:
            assert whole is not None, "read above"
            yield Block(start=start, values=whole[start:stop])


def rows_per_block(info: TensorInfo, block_bytes: int) -> int:
    """Rows of ``info`` that ``block_bytes`` hold; one at least."""
    size = row_bytes(info)
    return max(1, block_bytes // size) if size else max(1, math.prod(info.shape[:1]))


def row_bytes(info: TensorInfo) -> int:
    """Bytes of one row of ``info``."""
    return math.prod(info.shape[1:]) * info.dtype.size_bytes
