"""Reading safetensors files without a framework: header first, values mapped on demand.

Format (safetensors documentation, "Format"): 8 bytes little-endian header length N, N bytes of
JSON ``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, then the values without holes.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from neuronc import dtypes
from neuronc.checkpoint.paths import reading
from neuronc.checkpoint.tensor_info import TensorInfo, no_such_tensor
from neuronc.errors import InputError

MAX_HEADER_BYTES = 100_000_000
"""The limit that the format itself sets, so that a broken length cannot eat the memory."""

_LENGTH = struct.Struct("<Q")


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
        shape = (stop - start, *stored.info.shape[1:])
        rows = replace(stored.info, shape=shape)
        skipped = replace(stored.info, shape=(start, *stored.info.shape[1:])).size_bytes
        return _map_tensor(replace(stored, info=rows, offset=stored.offset + skipped))

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
    info, dtype = stored.info, dtypes.numpy_dtype(stored.info.dtype)
    if info.size_bytes == 0:  # an empty range cannot be mapped
        values = np.empty(info.shape, dtype)
        values.flags.writeable = False
        return values
    try:
        with reading(stored.path):
            raw = np.memmap(stored.path, np.uint8, "r", stored.offset, info.size_bytes)
    except ValueError as error:
        message = (
            f"{stored.path} became shorter after it was opened: tensor {info.name!r} should end "
            f"at byte {stored.offset + info.size_bytes}"
        )
        raise InputError(message, hint="leave the checkpoint alone while it is used") from error
    return np.asarray(raw).view(dtype).reshape(info.shape)


def read_safetensors_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file in the order of their bytes; reads nothing but the header.

    Raises:
        InputError: The file breaks the format; the message says where.
    """
    with reading(path), path.open("rb") as file:
        file_bytes = path.stat().st_size
        length = file.read(_LENGTH.size)
        header_bytes = _header_length(path, length, file_bytes)
        header = _parse_header(path, file.read(header_bytes))
    data_start = _LENGTH.size + header_bytes
    tensors = [_stored_tensor(path, name, header[name], data_start) for name in header]
    tensors.sort(key=lambda stored: (stored.offset, stored.info.size_bytes))
    _check_no_holes(path, tensors, data_start, file_bytes)
    return {stored.info.name: stored for stored in tensors}


def _broken(path: Path, what: str) -> InputError:
    return InputError(f"{path} {what}", hint="the file is damaged: download or convert it again")


def _header_length(path: Path, length: bytes, file_bytes: int) -> int:
    if len(length) < _LENGTH.size:
        raise _broken(path, f"is truncated: expected 8 bytes of length, found {len(length)}")
    (header_bytes,) = _LENGTH.unpack(length)
    if header_bytes > MAX_HEADER_BYTES:
        what = f"says its header has {header_bytes} bytes; the format allows {MAX_HEADER_BYTES}"
        raise _broken(path, what)
    if header_bytes > file_bytes - _LENGTH.size:
        what = f"says its header has {header_bytes} bytes, but the whole file has {file_bytes}"
        raise _broken(path, what)
    return int(header_bytes)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            message = f"{name!r} occurs twice"
            raise ValueError(message)
        found[name] = value
    return found


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"has a header that is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise _broken(path, f"has a header of type {type(header).__name__}; expected an object")
    header.pop("__metadata__", None)
    return header


def _sizes(value: object, *, count: int | None = None) -> tuple[int, ...] | None:
    """``value`` as a tuple of sizes, or None where it is anything else."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return None
    return tuple(value) if all(type(item) is int and item >= 0 for item in value) else None


def _stored_tensor(path: Path, name: str, entry: object, data_start: int) -> StoredTensor:
    fields = entry if isinstance(entry, dict) else {}
    shape = _sizes(fields.get("shape"))
    offsets = _sizes(fields.get("data_offsets"), count=2)
    if shape is None or offsets is None:
        what = f"describes tensor {name!r} as {str(entry)[:200]}; expected a shape and two offsets"
        raise _broken(path, f"{what}, none negative")
    tag = fields.get("dtype")
    dtype = dtypes.from_safetensors(str(tag), subject=f"tensor {name!r} of {path}")
    info = TensorInfo(name=name, shape=shape, dtype=dtype)
    begin, end = offsets
    if end - begin != info.size_bytes:
        what = f"gives tensor {name!r} the bytes {begin} to {end}, that is {end - begin}; its shape"
        raise _broken(path, f"{what} {list(shape)} of {dtype.name} needs {info.size_bytes}")
    return StoredTensor(info=info, path=path, offset=data_start + begin)


def _check_no_holes(
    path: Path, tensors: list[StoredTensor], data_start: int, file_bytes: int
) -> None:
    position = data_start
    for stored in tensors:
        if stored.offset != position:
            fault = "overlaps the tensor before it" if stored.offset < position else "leaves a hole"
            what = f"has tensor {stored.info.name!r} at byte {stored.offset}, which {fault}"
            raise _broken(path, f"{what}; expected byte {position}")
        position += stored.info.size_bytes
    if position != file_bytes:
        fault = "truncated" if file_bytes < position else "too long"
        raise _broken(path, f"is {fault}: expected {position} bytes, found {file_bytes}")
