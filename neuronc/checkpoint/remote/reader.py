"""Reading safetensors behind a URL: headers first, then ranges of bytes, a tensor at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from neuronc import dtypes
from neuronc.checkpoint.folder import merge_parts
from neuronc.checkpoint.remote.mirror import Mirror, in_parallel
from neuronc.checkpoint.remote.store import RemoteFile, check_unchanged, read_bytes
from neuronc.checkpoint.safetensors_header import parse_safetensors_header
from neuronc.checkpoint.tensor_info import TensorInfo, no_such_tensor

PIECE_BYTES = 64 * 2**20
"""Most bytes that one request asks for; a failed one costs no more than that again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteTensor:
    """Where a tensor lies: ``offset`` is in bytes from the start of ``file``."""

    info: TensorInfo
    file: RemoteFile
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteReader:
    """A `TensorReader` over safetensors files behind a URL; safe to use from several threads.

    Attributes:
        url: The folder's URL without secrets.
        stored: Where every tensor lies.
    """

    url: str
    stored: Mapping[str, RemoteTensor]

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A fresh array; memory is the tensor and one piece of `PIECE_BYTES`.

        Raises:
            InputError: No such tensor, it cannot be read whole, or its file is another version
                than at opening.
        """
        tensor = self._tensor(name)
        return _read(tensor, 0, tensor.info.size_bytes, tensor.info.shape)

    def read_range(self, name: str, start_row: int, stop_row: int) -> "np.ndarray[Any, Any]":
        """Rows ``start_row`` to before ``stop_row`` along dim 0: ``[stop - start, ...]``, fresh.

        Raises:
            InputError: as `read`.
            ValueError: the tensor has no such rows.
        """
        tensor = self._tensor(name)
        shape = tensor.info.shape
        if not shape or not 0 <= start_row <= stop_row <= shape[0]:
            message = f"tensor {name!r} {list(shape)} has no rows {start_row} to {stop_row}"
            raise ValueError(message)
        row_bytes = tensor.info.size_bytes // shape[0] if shape[0] else 0
        found = (stop_row - start_row, *shape[1:])
        return _read(tensor, start_row * row_bytes, stop_row * row_bytes, found)

    def _tensor(self, name: str) -> RemoteTensor:
        if name not in self.stored:
            raise no_such_tensor(name, self.stored, subject=self.url)
        return self.stored[name]


def open_remote_weights(mirror: Mirror) -> tuple[dict[str, TensorInfo], RemoteReader]:
    """Tensor infos in file order, and their reader; headers are read, no values.

    Raises:
        InputError: A damaged or unreadable file, or an index that does not match its files.
    """
    headers = dict(
        zip(mirror.safetensors, in_parallel(_read_header, mirror.safetensors), strict=True)
    )
    stored = merge_parts(mirror.safetensors, headers.__getitem__)
    infos = {name: tensor.info for name, tensor in stored.items()}
    return infos, RemoteReader(url=mirror.store.url.shown, stored=stored)


def _read_header(file: RemoteFile) -> dict[str, RemoteTensor]:
    found = parse_safetensors_header(file, file.size_bytes, partial(read_bytes, file))
    return {info.name: RemoteTensor(info=info, file=file, offset=offset) for info, offset in found}


def _read(
    tensor: RemoteTensor, start: int, stop: int, shape: tuple[int, ...]
) -> "np.ndarray[Any, Any]":
    """Bytes ``start`` to ``stop`` of the tensor's values."""
    raw = np.empty(stop - start, np.uint8)
    for begin in range(0, raw.size, PIECE_BYTES):
        end = min(begin + PIECE_BYTES, raw.size)
        first = tensor.offset + start
        raw[begin:end] = np.frombuffer(
            read_bytes(tensor.file, first + begin, first + end), np.uint8
        )
    # afterwards, so that a change while the bytes came in is noticed as well
    check_unchanged(tensor.file)
    return raw.view(dtypes.numpy_dtype(tensor.info.dtype)).reshape(shape)
