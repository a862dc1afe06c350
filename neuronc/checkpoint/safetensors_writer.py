"""Writing safetensors files tensor by tensor; format as in `neuronc.checkpoint.safetensors_reader`."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np

from neuronc import dtypes
from neuronc.checkpoint.paths import disk_full, free_bytes, writing
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile:
    """A finished file: its plain name, size, and hex sha256."""

    name: str
    size_bytes: int
    sha256: str


class SafetensorsWriter:
    """Streams tensors into one file; memory is one tensor at most, and none of ours is kept.

    The header is written first, from the infos alone. The file gets its name only when it is whole
    and on the disk; until then, and after an error, there is at most ``NAME.part``, which leaving
    the ``with`` block by an exception deletes.
    """

    def __init__(
        self,
        path: Path,
        tensors: Sequence[TensorInfo],
        *,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Check the disk for room and write the header.

        Raises:
            PlanError: The disk has less room than the file needs.
            UsageError: ``path`` exists or cannot be written.
            ValueError: Two tensors have one name.
        """
        header = _header(tensors, metadata)
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._size_bytes = len(header) + sum(info.size_bytes for info in tensors)
        self._left = list(reversed(tensors))
        self._sha256 = hashlib.sha256()
        self._written: WrittenFile | None = None
        if path.exists():
            message = f"{path} exists already"
            raise UsageError(message, hint="choose another output folder")
        with self._writing():
            if free_bytes(path.parent) < self._size_bytes:
                raise disk_full(path, needed_bytes=self._size_bytes)
            self._part.unlink(missing_ok=True)  # of a run that was killed
            self._file = self._part.open("xb")
        try:
            self._put(header)
        except BaseException:
            self._discard()
            raise

    def write(self, name: str, array: "np.ndarray[Any, Any]") -> None:
        """Append the next tensor; a view of a mapped file is copied through without being kept.

        Raises:
            PlanError: The disk is full.
            ValueError: It is another tensor's turn, or shape or dtype are not as declared.
        """
        info = self._next(name)
        if array.shape != info.shape:
            message = f"tensor {name!r} has shape {array.shape}; declared {info.shape}"
            raise ValueError(message)
        self._put_array(info, array)
        self._left.pop()

    def write_parts(self, name: str, parts: Iterable["np.ndarray[Any, Any]"]) -> None:
        """Append the next tensor, delivered in pieces along its first dim; errors as `write`."""
        info, num_rows = self._next(name), 0
        for part in parts:
            num_rows += len(part)
            if part.shape[1:] != info.shape[1:] or num_rows > info.shape[0]:
                message = f"a part of tensor {name!r} has shape {part.shape}; declared {info.shape}"
                raise ValueError(message)
            self._put_array(info, part)
        if num_rows != info.shape[0]:
            message = f"the parts of tensor {name!r} have {num_rows} rows; declared {info.shape}"
            raise ValueError(message)
        self._left.pop()

    def close(self) -> WrittenFile:
        """Flush to the disk and give the file its name; a second call returns the same.

        Raises:
            PlanError: The disk is full.
            ValueError: A declared tensor was not written.
        """
        if self._written is None:
            if self._left:
                message = f"{len(self._left)} tensors not written, next {self._left[-1].name!r}"
                raise ValueError(message)
            with self._writing():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._part.replace(self._path)
            self._written = WrittenFile(
                name=self._path.name, size_bytes=self._size_bytes, sha256=self._sha256.hexdigest()
            )
        return self._written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            if self._written is None:
                self._discard()

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self._path, needed_bytes=self._size_bytes)

    def _next(self, name: str) -> TensorInfo:
        expected = self._left[-1].name if self._left else None
        if name != expected:
            message = f"tensor {name!r} is out of turn: expected {expected!r}"
            raise ValueError(message)
        return self._left[-1]

    def _put_array(self, info: TensorInfo, array: "np.ndarray[Any, Any]") -> None:
        if array.dtype != dtypes.numpy_dtype(info.dtype):
            message = f"tensor {info.name!r} has dtype {array.dtype}; declared {info.dtype.name}"
            raise ValueError(message)
        # as bytes, because bf16 has no buffer protocol; reshape copies only what has strides
        self._put(array.reshape(-1).view(np.uint8).data)

    def _put(self, data: "bytes | memoryview[int]") -> None:
        self._sha256.update(data)
        with self._writing():
            self._file.write(data)

    def _discard(self) -> None:
        with suppress(OSError):  # a full disk fails again on what is still in the buffer
            self._file.close()
        self._part.unlink(missing_ok=True)


def _header(tensors: Sequence[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON, padded with spaces to a multiple of 8 bytes as the format allows."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for info in tensors:
        if info.name in entries or info.name == "__metadata__":
            message = f"two tensors are named {info.name!r}"
            raise ValueError(message)
        end = begin + info.size_bytes
        entries[info.name] = {
            "dtype": info.dtype.safetensors,
            "shape": list(info.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(math.ceil(len(text) / 8) * 8)
    return len(padded).to_bytes(8, "little") + padded
