"""Writing safetensors files tensor by tensor; format as in `neuronc.checkpoint.safetensors_reader`."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from neuronc import dtypes
from neuronc.checkpoint.direct_file import BLOCK_BYTES, BUFFER_BYTES, DIRECT_BYTES, DirectFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.paths import disk_full, free_bytes, writing
from neuronc.checkpoint.tensor_info import Place, TensorInfo
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile:
    """A file, or its beginning: its plain name, size, and hex sha256."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """The beginning of a file that an earlier run wrote, checked by the caller.

    Attributes:
        num_tensors: How many of its tensors are there whole.
        sha256: The digest of those bytes, to go on with.
    """

    num_tensors: int
    sha256: "_Hash"


class SafetensorsWriter:
    """Streams tensors into one file; memory is the blocks that wait in the lanes.

    The header is written first, from the infos alone. The file gets its name only when it is whole
    and on the disk; until then, and after an error, there is at most ``NAME.part``, which leaving
    the ``with`` block by an exception deletes, unless it is to be gone on with.
    """

    def __init__(
        self,
        path: Path,
        tensors: Sequence[TensorInfo],
        *,
        metadata: Mapping[str, str] = MappingProxyType({}),
        lanes: Lanes | None = None,
        lane: int = 0,
        begun: Begun | None = None,
        keep_part: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
        data_begin: int | None = None,
    ) -> None:
        """Check the disk for room and write the header.

        Args:
            path: The file, which must not exist.
            tensors: What will be written, in order.
            metadata: Of the safetensors header.
            lanes: Where to hash (in ``lane``) and to write (in the next); without, done at once.
            lane: See ``lanes``.
            begun: Go on with ``NAME.part``; what it has beyond that is cut off.
            keep_part: Leave ``NAME.part`` after an error, to be gone on with.
            buffer_bytes: Of memory that is written at once.
            data_begin: Where the values are to begin within a block of the disk, 0 to 4095: spaces in
                the header bring them there. None is wherever they come.

        Raises:
            PlanError: The disk has less room than the file needs.
            UsageError: ``path`` exists or cannot be written.
            ValueError: Two tensors have one name.
        """
        header = _header(tensors, metadata, data_begin)
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._size_bytes = len(header) + sum(info.size_bytes for info in tensors)
        done = begun.num_tensors if begun else 0
        self._left = list(reversed(tensors[done:]))
        self._rows = 0
        self._sha256 = begun.sha256 if begun else hashlib.sha256()
        self._lanes, self._lane, self._keep_part = lanes, lane, keep_part
        self._written: WrittenFile | None = None
        kept_bytes = len(header) + sum(i.size_bytes for i in tensors[:done]) if begun else 0
        self._handed_bytes = kept_bytes
        self._file = self._open(kept_bytes, min(buffer_bytes, self._size_bytes))
        try:
            if not begun:
                self._put(header)
        except BaseException:
            self._discard()
            raise

    def _open(self, kept_bytes: int, buffer_bytes: int) -> DirectFile:
        if self._path.exists():
            message = f"{self._path} exists already"
            raise UsageError(message, hint="choose another output folder")
        with self._writing():
            if free_bytes(self._path.parent) < self._size_bytes - kept_bytes:
                raise disk_full(self._path, needed_bytes=self._size_bytes - kept_bytes)
            if kept_bytes:
                os.truncate(self._part, kept_bytes)
            else:
                self._part.unlink(missing_ok=True)  # of a run that was killed
                self._part.open("xb").close()
            is_direct = self._size_bytes >= DIRECT_BYTES
            return DirectFile(
                self._part, start=kept_bytes, is_direct=is_direct, buffer_bytes=buffer_bytes
            )

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
        self.append(name, array)
        self.finish(name)

    def append(self, name: str, rows: "np.ndarray[Any, Any]", place: Place | None = None) -> None:
        """Append rows of the next tensor, which `finish` ends; errors as `write`.

        The array is handed to the lanes: it must not change until they are drained. Where its very
        bytes lie in a file at ``place``, the system copies them from there.
        """
        info = self._next(name)
        self._rows += len(rows) if info.shape else 1
        if rows.shape[1:] != info.shape[1:] or self._rows > math.prod(info.shape[:1]):
            message = f"a part of tensor {name!r} has shape {rows.shape}; declared {info.shape}"
            raise ValueError(message)
        self._put_array(info, rows, place)

    def finish(self, name: str) -> None:
        """End the tensor that `append` was called for.

        Raises:
            ValueError: It has fewer rows than declared.
        """
        info = self._next(name)
        if self._rows != math.prod(info.shape[:1]):
            message = f"the parts of tensor {name!r} have {self._rows} rows; declared {info.shape}"
            raise ValueError(message)
        self._rows = 0
        self._left.pop()

    def so_far(self) -> WrittenFile:
        """What is in the file now; waits for the lanes.

        Raises:
            PlanError: The disk is full.
        """
        if self._written is not None:
            return self._written
        if self._lanes:
            self._lanes.drain()
        with self._writing():
            self._file.flush()
        digest = self._sha256.hexdigest()
        return WrittenFile(name=self._path.name, size_bytes=self._handed_bytes, sha256=digest)

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
            written = self.so_far()
            with self._writing():
                self._file.sync()
                self._file.close()
                self._part.replace(self._path)
            self._written = written
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

    def _put_array(
        self, info: TensorInfo, array: "np.ndarray[Any, Any]", place: Place | None = None
    ) -> None:
        if array.dtype != dtypes.numpy_dtype(info.dtype):
            message = f"tensor {info.name!r} has dtype {array.dtype}; declared {info.dtype.name}"
            raise ValueError(message)
        # As bytes, because bf16 has no buffer protocol. Only what has strides is copied, as plain
        # numbers: numpy copies those without holding the interpreter lock.
        plain = np.ascontiguousarray(array.view(f"u{array.itemsize}"))
        self._put(plain.reshape(-1).view(np.uint8).data, place)

    def _put(self, data: "bytes | memoryview[int]", place: Place | None = None) -> None:
        self._handed_bytes += len(data)
        if self._lanes is None:
            self._sha256.update(data)
            self._write_all(data, place)
            return
        half = len(data) // 2  # both hold the same bytes
        self._lanes.submit(self._lane, half, lambda: self._sha256.update(data))
        self._lanes.submit(self._lane + 1, half, lambda: self._write_all(data, place))

    def _write_all(self, data: "bytes | memoryview[int]", place: Place | None = None) -> None:
        with self._writing():
            self._file.write(data, place)

    def _discard(self) -> None:
        if self._lanes:
            self._lanes.stop()
        with suppress(OSError):  # a full disk fails again
            self._file.close()
        if not self._keep_part:
            self._part.unlink(missing_ok=True)


def _header(
    tensors: Sequence[TensorInfo], metadata: Mapping[str, str], data_begin: int | None
) -> bytes:
    """Length and JSON, padded with spaces to a multiple of 8 bytes or more as the format allows."""
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
    if data_begin is not None:
        padded = padded.ljust(len(padded) + (data_begin - 8 - len(padded)) % BLOCK_BYTES)
    return len(padded).to_bytes(8, "little") + padded
