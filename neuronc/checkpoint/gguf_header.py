"""The header of a GGUF file, checked against the file's size before anything else reads it.

Format (GGUF specification, versions 2 and 3, little endian): magic, version, tensor count,
key-value count, the key-value pairs, one record per tensor, padding, values. The reader of the gguf
library trusts every length in the file; on a damaged one it can run forever.
"""

import math
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from neuronc.checkpoint.paths import open_file
from neuronc.errors import InputError

MAX_HEADER_BYTES = 100_000_000
"""Several times the largest vocabulary; a hole of a sparse file could be walked over for hours."""

_VERSIONS = (2, 3)
_SCALARS = dict(zip(range(13), "BbHhIif?xxQqd", strict=True))
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4
_MAX_WALKED = 4_000_000  # strings and arrays inside of arrays; large vocabularies have a fifth
_MAX_NESTING = 4
_ALIGNMENT = "general.alignment"

Entry = TypeVar("Entry")


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufTensor:
    """One record of the header; ``shape`` is outermost dim first, as numpy has it."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufPair:
    """One key-value pair: its bytes are ``start`` to ``end``; ``value`` is the length of an array."""

    value: Any
    is_array: bool
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufHeader:
    """Key-value pairs and tensor records; offsets are in bytes from the start of the file."""

    architecture: str
    pairs: Mapping[str, GgufPair]
    tensors: tuple[GgufTensor, ...]
    file_bytes: int


def broken(path: Path, what: str) -> InputError:
    """The error for a damaged GGUF file."""
    return InputError(f"{path} {what}", hint="the file is damaged: download or convert it again")


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of ``path``; reads nothing behind it.

    Raises:
        InputError: It is no GGUF file, of another version, truncated, or contradicts itself.
    """
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size < 24:
            raise broken(path, "is too short to be a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(path, _Cursor(path, data))


class _Cursor:
    """Reads values one after the other, never behind the end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.position = path, data, 0
        self.walked = 0

    def skip(self, size_bytes: int) -> int:
        start, self.position = self.position, self.position + size_bytes
        if self.position > len(self.data):
            what = f"is truncated: its header goes on to byte {self.position} at least"
            raise broken(self.path, f"{what}, but the file has {len(self.data)}")
        if self.position > MAX_HEADER_BYTES:
            what = f"has a header of more than {MAX_HEADER_BYTES} bytes"
            raise broken(self.path, f"{what}, which no model needs")
        return start

    def number(self, code: str) -> Any:
        layout = struct.Struct(f"<{code}")
        return layout.unpack_from(self.data, self.skip(layout.size))[0]

    def text(self) -> str:
        size_bytes = self.number("Q")
        start = self.skip(size_bytes)
        try:
            return self.data[start : start + size_bytes].decode("utf-8")
        except UnicodeDecodeError as error:
            raise broken(self.path, f"has a name at byte {start} that is no text") from error

    def value(self, type_id: int, depth: int = 0) -> Any:
        """A scalar or a string; of an array its length, the rest is only walked over."""
        if type_id == _STRING:
            return self.text()
        if type_id == _ARRAY and depth < _MAX_NESTING:
            return self._skip_array(depth)
        code = _SCALARS.get(type_id, "x")
        if code == "x":
            raise broken(self.path, f"has a value of unknown type {type_id} in its header")
        return self.number(code)

    def _check_walk(self, count: int) -> None:
        """Whether ``count`` strings or arrays may follow, and be walked over in good time."""
        begin = self.position
        self.skip(8 * count)  # each begins with a length
        self.position = begin
        self.walked += count
        if self.walked > _MAX_WALKED:
            what = f"has arrays of {self.walked} strings in its header"
            raise broken(self.path, f"{what}; expected at most {_MAX_WALKED}")

    def _skip_array(self, depth: int) -> int:
        type_id, count = self.number("I"), self.number("Q")
        if type_id in (_STRING, _ARRAY):
            self._check_walk(count)
        if type_id == _STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        elif type_id == _ARRAY:
            for _ in range(count):
                self.value(type_id, depth + 1)
        else:
            code = _SCALARS.get(type_id, "x")
            if code == "x":
                raise broken(self.path, f"has an array of unknown type {type_id} in its header")
            self.skip(count * struct.calcsize(f"<{code}"))
        return int(count)


def _parse(path: Path, cursor: _Cursor) -> GgufHeader:
    magic = cursor.data[cursor.skip(4) : 4]
    version = cursor.number("I")
    if magic != b"GGUF" or version not in _VERSIONS:
        what = f"starts with {magic!r}, version {version}; expected b'GGUF', version 2 or 3"
        raise broken(path, what)
    num_tensors, num_pairs = cursor.number("Q"), cursor.number("Q")
    pairs = _distinct(path, num_pairs, lambda: _pair(cursor))
    records = _distinct(path, num_tensors, lambda: (cursor.text(), _record(cursor)))
    architecture, alignment = _value(pairs, "general.architecture"), _value(pairs, _ALIGNMENT, 32)
    if not isinstance(architecture, str) or not isinstance(alignment, int) or alignment < 1:
        what = f"says architecture {architecture!r} and alignment {alignment!r}"
        raise broken(path, f"{what}; expected a name and a positive number")
    start = math.ceil(cursor.position / alignment) * alignment
    tensors = (
        GgufTensor(name=name, shape=shape, type_id=type_id, offset=start + offset)
        for name, (shape, type_id, offset) in records.items()
    )
    return GgufHeader(
        architecture=architecture,
        pairs=pairs,
        tensors=tuple(tensors),
        file_bytes=len(cursor.data),
    )


def _value(pairs: Mapping[str, GgufPair], key: str, default: object = None) -> object:
    return pairs[key].value if key in pairs else default


def _pair(cursor: _Cursor) -> tuple[str, GgufPair]:
    start, key, type_id = cursor.position, cursor.text(), cursor.number("I")
    value = cursor.value(type_id)
    is_array = type_id == _ARRAY
    return key, GgufPair(value=value, is_array=is_array, start=start, end=cursor.position)


def _record(cursor: _Cursor) -> tuple[tuple[int, ...], int, int]:
    num_dims = cursor.number("I")
    if not 1 <= num_dims <= _MAX_DIMS:
        what = f"has a tensor with {num_dims} dims; the format allows 1 to {_MAX_DIMS}"
        raise broken(cursor.path, what)
    dims = tuple(cursor.number("Q") for _ in range(num_dims))
    return dims[::-1], cursor.number("I"), cursor.number("Q")


def _distinct(path: Path, count: int, read: Callable[[], tuple[str, Entry]]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for _ in range(count):
        name, value = read()
        if name in found:
            raise broken(path, f"has {name!r} twice in its header")
        found[name] = value
    return found
