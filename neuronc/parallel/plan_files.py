"""Which tensors go into which file of a rank."""

import sys
from collections.abc import Iterable, Sequence

from neuronc.checkpoint.direct_file import BLOCK_BYTES, DIRECT_BYTES
from neuronc.checkpoint.files_writer import PlannedFile
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES
from neuronc.errors import PlanError
from neuronc.parallel.layouts.names import Layout, rank_paths
from neuronc.parallel.stored import StoredTensor

_HEADER_BYTES = 512
"""Room for a tensor's entry in the header of its file."""


def plan_files(
    stored: Iterable[StoredTensor],
    tp: int,
    layout: Layout,
    max_file_bytes: int | None,
) -> tuple[tuple[PlannedFile, ...], ...]:
    """Every rank's files: the tensors in order, a new file where one would be too large.

    Raises:
        PlanError: a tensor alone is larger than ``max_file_bytes``.
    """
    infos = [
        TensorInfo(name=t.rule.name, shape=t.rule.rank_shape, dtype=DTYPES[t.dtype]) for t in stored
    ]
    _check_largest(infos, max_file_bytes)
    groups: list[list[TensorInfo]] = [[]]
    whole_room = _room(max_file_bytes)
    room = whole_room
    for info in infos:
        size_bytes = info.size_bytes + _HEADER_BYTES
        if size_bytes > room and groups[-1]:
            groups.append([])
            room = whole_room
        groups[-1].append(info)
        room -= size_bytes
    return tuple(
        tuple(
            PlannedFile(path=path, tensors=tuple(group))
            for path, group in zip(rank_paths(rank, layout, len(groups)), groups, strict=True)
        )
        for rank in range(tp)
    )


def _check_largest(infos: Sequence[TensorInfo], max_file_bytes: int | None) -> None:
    largest = max(infos, key=lambda info: info.size_bytes, default=None)
    if largest is None or max_file_bytes is None:
        return
    needed = largest.size_bytes + _HEADER_BYTES
    needed += BLOCK_BYTES if needed + BLOCK_BYTES >= DIRECT_BYTES else 0
    if needed > max_file_bytes:
        message = f"{largest.name!r} takes {needed} bytes; --max-file-size is {max_file_bytes}"
        raise PlanError(message, hint=f"pass --max-file-size {needed} or more")


def _room(max_file_bytes: int | None) -> int:
    """Bytes of tensors and their entries; a large file's header may be longer, see `begin_alike`."""
    if max_file_bytes is None:
        return sys.maxsize
    return max_file_bytes - (BLOCK_BYTES if max_file_bytes >= DIRECT_BYTES else 0)
