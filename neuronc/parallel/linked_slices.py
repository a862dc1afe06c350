"""Rank weights as slices of the checkpoint's own files: where each lies, and how it is read.

A slice is a box of one tensor in one file: byte offset, shape, and bytes from one index to the next
along every dim; and the place that it takes in the rank's shard. What no slice covers is padding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.paths import reading
from neuronc.checkpoint.safetensors_reader import StoredTensor, read_safetensors_header
from neuronc.checkpoint.tensor_info import no_such_tensor
from neuronc.dtypes import Dtype, numpy_dtype
from neuronc.errors import InputError
from neuronc.parallel.rules import ParamRule, Piece

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkedFile:
    """A weight file of the checkpoint, as it was when it was linked; the path is absolute."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """A box of elements.

    Attributes:
        file: Number of the file in `LinkedWeights.files`.
        offset: Byte offset of its first element.
        shape: Its shape; as many dims as the shard has.
        strides: Bytes between neighbours along each dim.
        at: Its first index in the shard, along each dim.
    """

    file: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    at: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkedWeights:
    """Where the weights of a linked split lie.

    Attributes:
        files: The checkpoint's files.
        slices: Of every tensor by name, those of each rank.
    """

    files: tuple[LinkedFile, ...]
    slices: Mapping[str, tuple[tuple[Slice, ...], ...]]


def link_weights(
    rules: Mapping[str, ParamRule], stored: Mapping[str, Sequence[StoredTensor]]
) -> LinkedWeights:
    """The slices of every rank.

    Args:
        rules: The plan.
        stored: Of every parameter, the tensors whose rows one after the other are its own.
    """
    paths = list(dict.fromkeys(part.path for parts in stored.values() for part in parts))
    number = {path: index for index, path in enumerate(paths)}
    slices = {
        name: tuple(
            tuple(_slices(rule, pieces, stored[name], number))
            for pieces in (rule.ranks if rule.dim is not None else [()])
        )
        for name, rule in rules.items()
    }
    return LinkedWeights(files=tuple(map(_linked_file, paths)), slices=slices)


def _linked_file(path: Path) -> LinkedFile:
    with reading(path):
        real = path.resolve()
        found = real.stat()
    return LinkedFile(path=str(real), size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _slices(
    rule: ParamRule,
    pieces: tuple[Piece, ...],
    parts: Sequence[StoredTensor],
    number: Mapping[Path, int],
) -> Iterator[Slice]:
    """What each part gives to each piece; a replicated tensor is one piece of dim 0."""
    dim = rule.dim or 0
    if rule.dim is None:
        pieces = (Piece(start=0, length=rule.shape[0] if rule.shape else 1),)
    for part, start, shape in _boxes(rule, parts):
        strides = _strides(shape, part.info.dtype.size_bytes)
        to = 0
        for piece in pieces:
            if piece.start is not None:
                low = max(piece.start, start[dim] if start else 0)
                high = piece.start + piece.length
                high = min(high, start[dim] + shape[dim]) if shape else high
                if low < high:
                    yield _box(part, number, shape, strides, start, dim, low, high, piece, to)
            to += piece.length


def _box(
    part: StoredTensor,
    number: Mapping[Path, int],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    start: tuple[int, ...],
    dim: int,
    low: int,
    high: int,
    piece: Piece,
    to: int,
) -> Slice:
    if not shape:
        return Slice(file=number[part.path], offset=part.offset, shape=(), strides=(), at=())
    assert piece.start is not None, "zeros have no slice"
    at = list(start)
    at[dim] = to + low - piece.start
    return Slice(
        file=number[part.path],
        offset=part.offset + (low - start[dim]) * strides[dim],
        shape=(*shape[:dim], high - low, *shape[dim + 1 :]),
        strides=strides,
        at=tuple(at),
    )


def _boxes(
    rule: ParamRule, parts: Sequence[StoredTensor]
) -> Iterator[tuple[StoredTensor, tuple[int, ...], tuple[int, ...]]]:
    """Each part with its first index in the whole parameter and its shape there."""
    if len(parts) == 1:
        yield parts[0], (0,) * len(rule.shape), rule.shape
        return
    expert = row = 0
    for part in parts:  # matrices of experts, stacked
        rows, columns = part.info.shape
        yield part, (expert, row, 0), (1, rows, columns)
        row += rows
        if row == rule.shape[1]:
            expert, row = expert + 1, 0


def _strides(shape: tuple[int, ...], item_bytes: int) -> tuple[int, ...]:
    strides, step = [], item_bytes
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkedReader:
    """A `TensorReader` over one rank's slices."""

    linked: LinkedWeights
    rank: int
    shapes: Mapping[str, tuple[int, ...]]
    element: Dtype

    def read(self, name: str) -> Array:
        """The rank's shard: a view where it is one run of bytes, else a fresh array.

        Raises:
            InputError: No such tensor, or a file that changed since it was linked.
        """
        if name not in self.shapes:
            raise no_such_tensor(name, self.shapes, subject="the linked split")
        of_rank = self.linked.slices[name]
        slices = of_rank[self.rank if len(of_rank) > 1 else 0]
        shape, dtype = self.shapes[name], numpy_dtype(self.element)
        if len(slices) == 1 and slices[0].shape == shape and 0 not in shape:
            found = self._view(slices[0], dtype)
            return found if found.flags.c_contiguous else np.ascontiguousarray(found)
        shard = np.zeros(shape, dtype)
        for piece in slices:
            place = tuple(slice(a, a + n) for a, n in zip(piece.at, piece.shape, strict=True))
            shard[place] = self._view(piece, dtype)
        return shard

    def read_rows(self, names: Sequence[str]) -> Array:
        """Tensors ``[rows_i, ...]`` one after the other."""
        return np.concatenate([self.read(name) for name in names])

    def _view(self, piece: Slice, dtype: "np.dtype[Any]") -> Array:
        file = self.linked.files[piece.file]
        steps = zip(piece.shape, piece.strides, strict=True)
        extent = sum((size - 1) * stride for size, stride in steps) + dtype.itemsize
        try:
            with reading(Path(file.path)):
                raw = np.memmap(file.path, np.uint8, "r", piece.offset, extent)
        except ValueError as error:
            raise changed_file(file, "it is shorter") from error
        flat = np.asarray(raw)
        view: Array = np.ndarray(piece.shape, dtype, flat, 0, piece.strides)
        return view


def check_linked(linked: LinkedWeights, rank: int) -> None:
    """Compare the checkpoint's files with what they were when they were linked.

    Raises:
        InputError: one is gone, was changed, by its size and modification time, or is no
            safetensors file; or a slice of ``rank`` is not of its values.
    """
    starts = []
    for file in linked.files:
        with reading(Path(file.path)):
            found = Path(file.path).stat()
        if (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            raise changed_file(file, "its size or modification time is another")
        # whoever wrote split.json may have named any file, a private key say: those are no weights
        starts.append(_values_start(file))
    for name, ranks in linked.slices.items():
        of_rank = ranks[rank if len(ranks) > 1 else 0]
        if any(piece.offset < starts[piece.file] for piece in of_rank):
            message = f"a slice of {name!r} lies in a header, before the values"
            raise InputError(message, hint="split the checkpoint again with --link")


@lru_cache(maxsize=4096)
def _values_start(file: LinkedFile) -> int:
    """Where the values begin; a linked file is asked for once per rank."""
    values = read_safetensors_header(Path(file.path)).values()
    return min((tensor.offset for tensor in values), default=file.size_bytes)


def changed_file(file: LinkedFile, how: str) -> InputError:
    """The error for a checkpoint's file that is not what it was."""
    message = f"{file.path} changed after it was linked: {how}"
    return InputError(message, hint="split the checkpoint again with --link")
