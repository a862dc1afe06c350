"""Which tensors go into which file of a rank."""

import sys
from collections.abc import Iterable

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
    groups: list[list[TensorInfo]] = [[]]
    room = max_file_bytes or sys.maxsize
    for tensor in stored:
        name, shape = tensor.rule.name, tensor.rule.rank_shape
        info = TensorInfo(name=name, shape=shape, dtype=DTYPES[tensor.dtype])
        size_bytes = info.size_bytes + _HEADER_BYTES
        if max_file_bytes and size_bytes > max_file_bytes:
            message = f"{name!r} takes {size_bytes} bytes; --max-file-size is {max_file_bytes}"
            raise PlanError(message, hint=f"pass --max-file-size {size_bytes} or more")
        if size_bytes > room and groups[-1]:
            groups.append([])
            room = max_file_bytes or sys.maxsize
        groups[-1].append(info)
        room -= size_bytes
    return tuple(
        tuple(
            PlannedFile(path=path, tensors=tuple(group))
            for path, group in zip(rank_paths(rank, layout, len(groups)), groups, strict=True)
        )
        for rank in range(tp)
    )
