"""Reading the weights of a split folder: one rank's part, or whole tensors put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.paths import path_below
from neuronc.checkpoint.safetensors_reader import (
    SafetensorsReader,
    StoredTensor,
    read_safetensors_header,
)
from neuronc.checkpoint.tensor_info import TensorReader, no_such_tensor
from neuronc.dtypes import DTYPES
from neuronc.errors import InputError
from neuronc.parallel.linked_slices import LinkedReader, check_linked
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import is_cut_into, join_shards, spans_of
from neuronc.parallel.split_manifest import SplitManifest, read_split_manifest

Array = np.ndarray[Any, Any]


class RankReader(TensorReader, Protocol):
    """Reads one rank's shards."""

    def read_rows(self, names: Sequence[str]) -> Array:
        """Shards ``[rows_i, ...]`` one after the other."""


def open_rank(folder: Path, rank: int, split: SplitManifest | None = None) -> RankReader:
    """A reader of ``rank``'s weights in the split folder ``folder``; headers are read, no values.

    Raises:
        InputError: not a split folder, damaged, or linked to a checkpoint that changed.
    """
    split = split or read_split_manifest(folder)
    if split.linked is not None:
        check_linked(split.linked, rank)
        shapes = {name: tensor.rule.rank_shape for name, tensor in split.tensors.items()}
        return LinkedReader(
            linked=split.linked, rank=rank, shapes=shapes, element=DTYPES[split.dtype]
        )
    stored: dict[str, StoredTensor] = {}
    for path in split.rank_files(rank):
        stored.update(read_safetensors_header(path_below(folder, path)))
    _check_stored(folder, rank, split, stored)
    return SafetensorsReader(folder=folder, stored=stored)


def _check_stored(
    folder: Path, rank: int, split: SplitManifest, stored: Mapping[str, StoredTensor]
) -> None:
    """Whether the rank's files hold just what ``split.json`` says of them."""
    expected = {tensor.rule.name: (tensor.rule.rank_shape, tensor.dtype) for tensor in split.stored}
    found = {name: (entry.info.shape, entry.info.dtype.name) for name, entry in stored.items()}
    if found == expected:
        return
    name = min(name for name in expected | found if expected.get(name) != found.get(name))
    told = [
        f"{of[name][1]} {list(of[name][0])}" if name in of else "none" for of in (found, expected)
    ]
    message = f"rank {rank} in {folder} has {name!r} as {told[0]}; split.json says {told[1]}"
    raise InputError(message, hint="copy the folder again: it is of two splits, or was changed")


def open_ranks(folder: Path, split: SplitManifest | None = None) -> tuple[RankReader, ...]:
    """A reader of every rank; errors as `open_rank`."""
    split = split or read_split_manifest(folder)
    return tuple(open_rank(folder, rank, split) for rank in range(split.tp))


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeReader:
    """A `TensorReader` of whole tensors over the shards of all ranks."""

    folder: Path
    rules: Mapping[str, ParamRule]
    ranks: tuple[TensorReader, ...]

    def read(self, name: str) -> Array:
        """The whole tensor, put together: a fresh array, or a view where every rank holds all.

        Raises:
            InputError: No such tensor; the padding is not zero, or copies on two ranks differ.
        """
        if name not in self.rules:
            raise no_such_tensor(name, self.rules, subject=self.folder)
        shards = [np.asarray(rank.read(name)) for rank in self.ranks]
        return self._join(name, self.rules[name], shards)

    def _join(self, name: str, rule: ParamRule, shards: Sequence[Array]) -> Array:
        whole = join_shards(shards, rule)
        if not is_cut_into(whole, shards, rule):
            raise self._not_one(name)
        return whole

    def _not_one(self, name: str) -> InputError:
        message = f"the shards of {name!r} in {self.folder} are not one tensor cut into ranks"
        hint = "copy the folder again, or pass the checkpoint that it was made of"
        return InputError(message, hint=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRangeReader(WholeReader):
    """For ranks whose readers read ranges."""

    def read_range(self, name: str, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` of a whole tensor; errors as `read`."""
        if name not in self.rules:
            raise no_such_tensor(name, self.rules, subject=self.folder)
        rule = self.rules[name]
        if rule.dim == 0:
            return self._join_rows(name, rule, start, stop)
        shards = [self._rows(rank, name, start, stop) for rank in range(len(self.ranks))]
        return self._join(name, replace(rule, shape=(stop - start, *rule.shape[1:])), shards)

    def _join_rows(self, name: str, rule: ParamRule, start: int, stop: int) -> Array:
        whole: Array | None = None
        parts = [
            (span, self._rows(rank, name, span.to, span.to + span.length))
            for rank in range(len(self.ranks))
            for span in spans_of(rule, rank, start, stop)
        ]
        for span, rows in parts:
            if span.start is not None:
                if whole is None:
                    whole = np.empty((stop - start, *rule.shape[1:]), rows.dtype)
                whole[span.start - start : span.start - start + span.length] = rows
        assert whole is not None, "a layout leaves no row out"
        for span, rows in parts:
            at = None if span.start is None else span.start - start
            raw = rows.reshape(-1).view(np.uint8)
            expected = 0 if at is None else whole[at : at + span.length].reshape(-1).view(np.uint8)
            if not np.array_equal(raw, np.broadcast_to(expected, raw.shape)):
                raise self._not_one(name)
        return whole

    def _rows(self, rank: int, name: str, start: int, stop: int) -> Array:
        reader = self.ranks[rank]
        assert isinstance(reader, RangeReader), "chosen for it"
        return reader.read_range(name, start, stop)


def whole_reader(
    folder: Path, rules: Mapping[str, ParamRule], ranks: Sequence[TensorReader]
) -> WholeReader:
    """A reader of whole tensors over the shards of ``ranks``."""
    ranged = all(isinstance(rank, RangeReader) for rank in ranks)
    return (WholeRangeReader if ranged else WholeReader)(
        folder=folder, rules=rules, ranks=tuple(ranks)
    )
