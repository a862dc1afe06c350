"""One tensor after the other from the checkpoint into the files of all ranks, in blocks of rows."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.blocks import Block, LocalReader, blocks_of, row_bytes, rows_per_block
from neuronc.checkpoint.cast import cast
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import FileDigest, new_tensor_digest
from neuronc.checkpoint.files_writer import FilesWriter
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.tensor_info import Place
from neuronc.dtypes import Dtype, numpy_dtype
from neuronc.errors import InputError
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import cut_rows, is_in_order, spans_of
from neuronc.parallel.split_memory import SplitMemory
from neuronc.parallel.stored import scale_rule, store
from neuronc.progress import Stage

if TYPE_CHECKING:
    from xxhash import xxh3_128

Array = np.ndarray[Any, Any]


class TensorSplitter:
    """Splits one tensor after the other."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: ParallelPlan,
        element: Dtype,
        memory: SplitMemory,
        lanes: Lanes,
        writers: list[FilesWriter],
    ) -> None:
        self.checkpoint, self.scheme = checkpoint, plan.quantize
        self.element, self.memory = element, memory
        self.lanes, self.writers, self.ranks = lanes, writers, range(len(writers))
        reader = checkpoint.reader  # asked once: to ask whether it has methods takes a while
        self.local = reader if isinstance(reader, LocalReader) else None

    def size_bytes(self, name: str) -> int:
        return self.checkpoint.tensors[name].size_bytes

    def files(self) -> tuple[FileDigest, ...]:
        return tuple(file for writer in self.writers for file in writer.so_far())

    def split(self, name: str, rule: ParamRule, stage: Stage) -> dict[str, "xxh3_128"]:
        """Hand over all that rank files hold for parameter ``name``.

        The digests of the whole tensors, complete when the lanes are drained.
        """
        digest, scales = new_tensor_digest(), list[Array]()
        if self._is_copied(name, rule):
            self._copy(name, rule, digest, stage)
            return {name: digest}
        for block in self._blocks(name, rule):
            [(_, rows, _), *more] = self._stored(block.values, rule)
            place = block.place if rows is block.values else None
            self._append(digest, rows, block.start, rule, place)
            scales += [found for _, found, _ in more]
            stage.advance(block.values.nbytes, note=name)
        self._finish(name)
        if not scales:
            return {name: digest}
        own, digest_of_scales = scale_rule(rule), new_tensor_digest()
        self._append(digest_of_scales, np.concatenate(scales), 0, own)
        self._finish(own.name)
        return {name: digest, own.name: digest_of_scales}

    def _is_copied(self, name: str, rule: ParamRule) -> bool:
        """Whether every rank's rows lie in a local file just as they are written."""
        return (
            rule.dim == 0
            and rule.channel_dim is None
            and self.checkpoint.tensors[name].dtype == self.element
            and self.local is not None
            and self.local.place_of(name) is not None
        )

    def _copy(self, name: str, rule: ParamRule, digest: "xxh3_128", stage: Stage) -> None:
        """Rows of all ranks in turn, so that their files are hashed at the same time."""
        blocks = self._blocks(name, rule, in_order=True)
        for parts in zip_longest(*(self._parts(name, rule, rank) for rank in self.ranks)):
            for rank, part in enumerate(parts):
                if part is not None:
                    rows, place = part
                    self.writers[rank].append(name, rows, place)
            self._digest_next(digest, blocks, len(parts), stage, name)
        self._digest_next(digest, blocks, sys.maxsize, stage, name)
        self._finish(name)

    def _digest_next(
        self, digest: "xxh3_128", blocks: Iterator[Block], count: int, stage: Stage, name: str
    ) -> None:
        for block in islice(blocks, count):
            data = block.values.reshape(-1).view(np.uint8).data
            self.lanes.submit(0, len(data), partial(digest.update, data))
            stage.advance(len(data), note=name)

    def _parts(self, name: str, rule: ParamRule, rank: int) -> Iterator[tuple[Array, Place | None]]:
        """The rows of one rank's shard, in its order, and where they lie."""
        info, reader = self.checkpoint.tensors[name], self.local
        assert reader is not None, "checked"
        place, step = reader.place_of(name), rows_per_block(info, self.memory.block_bytes)
        assert place is not None, "checked"
        for span in spans_of(rule, rank, 0, info.shape[0]):
            for at in range(0, span.length, step):
                count = min(step, span.length - at)
                if span.start is None:
                    shape = (count, *info.shape[1:])
                    yield np.full(shape, rule.padding, numpy_dtype(self.element)), None
                    continue
                start = span.start + at
                rows = reader.read_range(name, start, start + count)
                yield rows, replace(place, offset=place.offset + start * row_bytes(info))

    def _blocks(self, name: str, rule: ParamRule, *, in_order: bool = False) -> Iterator[Block]:
        info = self.checkpoint.tensors[name]
        # A KV head that a rank holds twice comes round again, and a scale is of a whole channel:
        # such a tensor is read whole.
        in_blocks = in_order or (is_in_order(rule) and rule.channel_dim in (None, 0))
        grows = max(self.element.size_bytes // info.dtype.size_bytes, 1)  # when it is cast
        block_bytes = self.memory.block_bytes // grows if in_blocks else info.size_bytes
        return blocks_of(self.checkpoint.reader, info, block_bytes=block_bytes)

    def _stored(self, values: Array, rule: ParamRule) -> list[tuple[str, Array, ParamRule]]:
        """Cast, or quantised from what the checkpoint has and rounded once; see `store`."""
        if rule.channel_dim is not None:
            return store(values, rule, self.scheme)
        try:
            rows = cast(values, self.element)
        except OverflowError as error:
            message = f"tensor {rule.name!r} of {self.checkpoint.source} has {error}"
            raise InputError(message, hint="pass --dtype bf16 or f32") from error
        return [(rule.name, rows, rule)]

    def _append(
        self,
        digest: "xxh3_128",
        rows: Array,
        start: int,
        rule: ParamRule,
        place: Place | None = None,
    ) -> None:
        rows = np.ascontiguousarray(rows).reshape(rows.shape)  # a scalar would get a dim
        data = rows.reshape(-1).view(np.uint8).data
        self.lanes.submit(0, len(data), partial(digest.update, data))
        for rank, writer in enumerate(self.writers):
            for part in cut_rows(rows, start, rule, rank):
                writer.append(rule.name, part, _place_in(part, rows, place))

    def _finish(self, name: str) -> None:
        for writer in self.writers:
            writer.finish(name)


def _place_in(part: Array, rows: Array, place: Place | None) -> Place | None:
    """Where ``part``, a view of ``rows``, lies on the disk; None where it is no run of bytes."""
    if place is None or not part.flags.c_contiguous:
        return None
    offset = part.ctypes.data - rows.ctypes.data
    if not 0 <= offset <= rows.nbytes - part.nbytes:
        return None
    return Place(path=place.path, offset=place.offset + offset)
