"""The header of a safetensors file and the rules of the format, wherever the file lies.

Format (safetensors documentation, "Format"): 8 bytes little-endian header length N, N bytes of
JSON ``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, then the values without holes.
"""

import json
import struct
from collections.abc import Callable
from math import prod
from typing import Any

from neuronc import dtypes
from neuronc.checkpoint.paths import shown
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.errors import InputError

MAX_HEADER_BYTES = 100_000_000
"""The limit that the format itself sets, so that a broken length cannot eat the memory."""

_MAX_DIMS = 32
_MAX_SIZE = 2**63 - 1

PlacedTensor = tuple[TensorInfo, int]
"""A tensor and where it begins, in bytes from the start of its file."""

_LENGTH = struct.Struct("<Q")


def parse_safetensors_header(
    subject: object, file_bytes: int, read: Callable[[int, int], bytes]
) -> list[PlacedTensor]:
    """The tensors of one file in the order of their bytes; reads nothing but the header.

    Args:
        subject: What messages call the file.
        file_bytes: Size of the whole file.
        read: Gives the bytes from the first to before the second offset, or fewer at the end.

    Raises:
        InputError: The file breaks the format; the message says where.
    """
    length = read(0, min(_LENGTH.size, file_bytes))
    header_bytes = _header_length(subject, length, file_bytes)
    data_start = _LENGTH.size + header_bytes
    header = _parse_header(subject, read(_LENGTH.size, data_start))
    tensors = [_placed_tensor(subject, name, header[name], data_start) for name in header]
    tensors.sort(key=lambda placed: (placed[1], placed[0].size_bytes))
    _check_no_holes(subject, tensors, data_start, file_bytes)
    return tensors


def _broken(subject: object, what: str) -> InputError:
    return InputError(f"{subject} {what}", hint="the file is damaged: download or convert it again")


def _header_length(subject: object, length: bytes, file_bytes: int) -> int:
    if len(length) < _LENGTH.size:
        raise _broken(subject, f"is truncated: expected 8 bytes of length, found {len(length)}")
    (header_bytes,) = _LENGTH.unpack(length)
    if header_bytes > MAX_HEADER_BYTES:
        what = f"says its header has {header_bytes} bytes; the format allows {MAX_HEADER_BYTES}"
        raise _broken(subject, what)
    if header_bytes > file_bytes - _LENGTH.size:
        what = f"says its header has {header_bytes} bytes, but the whole file has {file_bytes}"
        raise _broken(subject, what)
    return int(header_bytes)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            message = f"{name!r} occurs twice"
            raise ValueError(message)
        found[name] = value
    return found


def _parse_header(subject: object, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(subject, f"has a header that is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise _broken(subject, f"has a header of type {type(header).__name__}; expected an object")
    header.pop("__metadata__", None)
    return header


def _sizes(value: object, *, count: int | None = None) -> tuple[int, ...] | None:
    """``value`` as a tuple of sizes, or None where it is anything else."""
    if not isinstance(value, list) or (count is not None and len(value) != count):
        return None
    is_legal = all(type(item) is int and 0 <= item <= _MAX_SIZE for item in value)
    return tuple(value) if is_legal else None


def _placed_tensor(subject: object, name: str, entry: object, data_start: int) -> PlacedTensor:
    fields = entry if isinstance(entry, dict) else {}
    shape = _sizes(fields.get("shape"))
    offsets = _sizes(fields.get("data_offsets"), count=2)
    if shape is None or offsets is None:
        what = f"describes tensor {name!r} as {shown(entry)}; expected a shape and two offsets"
        raise _broken(subject, f"{what}, none negative")
    tag = fields.get("dtype")
    tag = tag if isinstance(tag, str) else shown(tag)
    dtype = dtypes.from_safetensors(tag[:80], subject=f"tensor {name!r} of {subject}")
    info = TensorInfo(name=name, shape=shape, dtype=dtype)
    if len(shape) > _MAX_DIMS or prod(size or 1 for size in shape) * dtype.size_bytes > _MAX_SIZE:
        what = f"describes tensor {name!r} with shape {shown(list(shape))}"
        raise _broken(subject, f"{what}, which no memory can address")
    begin, end = offsets
    if end - begin != info.size_bytes:
        what = f"gives tensor {name!r} the bytes {begin} to {end}, that is {end - begin}; its shape"
        raise _broken(subject, f"{what} {list(shape)} of {dtype.name} needs {info.size_bytes}")
    return info, data_start + begin


def _check_no_holes(
    subject: object, tensors: list[PlacedTensor], data_start: int, file_bytes: int
) -> None:
    position = data_start
    for info, offset in tensors:
        if offset != position:
            fault = "overlaps the tensor before it" if offset < position else "leaves a hole"
            what = f"has tensor {info.name!r} at byte {offset}, which {fault}"
            raise _broken(subject, f"{what}; expected byte {position}")
        position += info.size_bytes
    if position != file_bytes:
        fault = "truncated" if file_bytes < position else "too long"
        raise _broken(subject, f"is {fault}: expected {position} bytes, found {file_bytes}")
