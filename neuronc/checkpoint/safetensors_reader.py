"""Reading safetensors files without a framework: header first, values mapped on demand."""

import math
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neuronc import dtypes
from neuronc.checkpoint.paths import open_file, reading
from neuronc.checkpoint.safetensors_header import parse_safetensors_header
from neuronc.checkpoint.tensor_info import Place, TensorInfo, no_such_tensor
from neuronc.errors import InputError

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux has it
_POPULATED_BYTES = 8 << 20
"""What is mapped up to this size is read whole, and mapped faster at once than page by page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """Where a tensor lies: ``offset`` is in bytes from the start of ``path``."""

    info: TensorInfo
    path: Path
    offset: int

    @property
    def end(self) -> int:
        """Offset of the byte after the last."""
        return self.offset + self.info.size_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SafetensorsReader:
    """A `TensorReader` over one or several safetensors files."""

    folder: Path
    stored: Mapping[str, StoredTensor]

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A read-only view of the mapped file; costs no copy and no memory until it is used."""
        if name not in self.stored:
            raise no_such_tensor(name, self.stored, subject=self.folder)
        return _map_tensor(self.stored[name])

    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        """Rows ``start`` to ``stop`` of a tensor: a view, of which only those rows are mapped."""
        if name not in self.stored:
            raise no_such_tensor(name, self.stored, subject=self.folder)
        stored = self.stored[name]
        return _map_rows(stored, start, (stop - start, *stored.info.shape[1:]))

    def place_of(self, name: str) -> Place | None:
        """Where the tensor lies."""
        stored = self.stored[name]
        return Place(path=stored.path, offset=stored.offset)

    def read_rows(self, names: Sequence[str]) -> "np.ndarray[Any, Any]":
        """Tensors ``[rows_i, ...]`` one after the other.

        A view, as `read` gives, where they lie so in one file; else a copy.
        """
        parts = [self.read(name) for name in names]
        stored = [self.stored[name] for name in names]
        if any(a.path != b.path or a.end != b.offset for a, b in pairwise(stored)):
            return np.concatenate(parts)
        shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        return _map_tensor(replace(stored[0], info=replace(stored[0].info, shape=shape)))


def _map_tensor(stored: StoredTensor) -> "np.ndarray[Any, Any]":
    return _map_rows(stored, 0, stored.info.shape)


def _map_rows(stored: StoredTensor, start: int, shape: tuple[int, ...]) -> "np.ndarray[Any, Any]":
    """The part of ``shape`` that begins with row ``start``.

    By hand, because np.memmap takes longer to look up the path than it takes to map a block.
    """
    info, dtype = stored.info, dtypes.numpy_dtype(stored.info.dtype)
    item_bytes = info.dtype.size_bytes
    size_bytes = math.prod(shape) * item_bytes
    if size_bytes == 0:  # an empty range cannot be mapped
        values = np.empty(shape, dtype)
        values.flags.writeable = False
        return values
    offset = stored.offset + start * math.prod(info.shape[1:]) * item_bytes
    skipped = offset % mmap.ALLOCATIONGRANULARITY
    try:
        with reading(stored.path):
            mapped = _map(stored.path, offset - skipped, skipped + size_bytes)
    except ValueError as error:
        message = (
            f"{stored.path} became shorter after it was opened: tensor {info.name!r} should end "
            f"at byte {stored.offset + info.size_bytes}"
        )
        raise InputError(message, hint="leave the checkpoint alone while it is used") from error
    return np.frombuffer(mapped, np.uint8, offset=skipped).view(dtype).reshape(shape)


def _map(path: Path, offset: int, size_bytes: int) -> mmap.mmap:
    flags = mmap.MAP_SHARED | (_POPULATE if size_bytes <= _POPULATED_BYTES else 0)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(descriptor, size_bytes, flags=flags, prot=mmap.PROT_READ, offset=offset)
    finally:
        os.close(descriptor)


def read_safetensors_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file in the order of their bytes; reads nothing but the header.

    Raises:
        InputError: The file breaks the format; the message says where.
    """
    with open_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        found = parse_safetensors_header(
            path, size_bytes, lambda start, stop: _read_at(file, start, stop)
        )
    return {info.name: StoredTensor(info=info, path=path, offset=offset) for info, offset in found}


def _read_at(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)
