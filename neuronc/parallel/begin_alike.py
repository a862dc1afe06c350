"""Where the values of a rank's file begin, so that they lie in its blocks as in the checkpoint's.

Rows that a rank takes as they are can be written from the mapped checkpoint without a copy if they lie
at the same place within a block of the disk here and there; see `neuronc.checkpoint.direct_file`. A
model's tensors are mostly whole blocks long, so one beginning suits most of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from neuronc.checkpoint.blocks import LocalReader, row_bytes
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.direct_file import BLOCK_BYTES, DIRECT_BYTES
from neuronc.checkpoint.files_writer import PlannedFile
from neuronc.dtypes import Dtype
from neuronc.parallel.rules import ParamRule

_ALIGNMENT_BYTES = 8
"""Of a safetensors file's values."""


def begin_alike(
    files: tuple[tuple[PlannedFile, ...], ...],
    checkpoint: Checkpoint,
    rules: Mapping[str, ParamRule],
    element: Dtype,
) -> tuple[tuple[PlannedFile, ...], ...]:
    """``files`` of every rank, the large ones with the beginning that suits most of their bytes."""
    reader = checkpoint.reader
    if not isinstance(reader, LocalReader):
        return files
    return tuple(
        tuple(_begin(file, rank, checkpoint, reader, rules, element) for file in of_rank)
        for rank, of_rank in enumerate(files)
    )


def _begin(
    file: PlannedFile,
    rank: int,
    checkpoint: Checkpoint,
    reader: LocalReader,
    rules: Mapping[str, ParamRule],
    element: Dtype,
) -> PlannedFile:
    if file.size_bytes < DIRECT_BYTES:
        return file
    suited, at = Counter[int](), 0
    for info in file.tensors:
        rule = rules.get(info.name)  # scales have none
        source = rule and checkpoint.tensors[info.name]
        if rule and source and source.dtype == element and rule.channel_dim is None:
            place, first = reader.place_of(info.name), _first_row(rule, rank)
            if place and first is not None:
                begin = (place.offset + first * row_bytes(source) - at) % BLOCK_BYTES
                suited[begin] += info.size_bytes
        at += info.size_bytes
    best = max(suited, key=lambda begin: suited[begin], default=None)
    if best is None or best % _ALIGNMENT_BYTES:
        return file
    return replace(file, data_begin=best)


def _first_row(rule: ParamRule, rank: int) -> int | None:
    """Of the tensor in the rank's shard; None where rows are cut or the shard begins with zeros."""
    if rule.dim is None:
        return 0
    return rule.ranks[rank][0].start if rule.dim == 0 and rule.ranks[rank] else None
