"""The streaming part of a split: blocks of rows from the checkpoint into the files of all ranks."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.blocks import Block, blocks_of
from neuronc.checkpoint.cast import cast
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import FileDigest, new_tensor_digest
from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.tensor_info import Place
from neuronc.dtypes import Dtype
from neuronc.errors import InputError
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import cut_rows, is_in_order
from neuronc.parallel.split_journal import STEP_BYTES, Done, Journal
from neuronc.parallel.split_memory import SplitMemory
from neuronc.parallel.stored import scale_rule, store
from neuronc.progress import Progress, Stage

if TYPE_CHECKING:
    from xxhash import xxh3_128

Array = np.ndarray[Any, Any]


def write_ranks(
    checkpoint: Checkpoint,
    plan: ParallelPlan,
    files: tuple[tuple[PlannedFile, ...], ...],
    folder: Path,
    *,
    element: Dtype,
    memory: SplitMemory,
    journal: Journal | None,
    progress: Progress,
) -> tuple[dict[str, str], tuple[FileDigest, ...]]:
    """Cut the tensors of ``plan`` and write the ``files`` of every rank into ``folder``.

    A block is read once, and cast once; hashing it, hashing each rank's part and writing run side
    by side. Memory is ``memory``'s, whatever the checkpoint's size, but for readers that cannot
    read a part of a tensor.

    Returns:
        digest of every whole tensor by name, and the files.

    Raises:
        InputError: a value is too large for ``element``, or what the checkpoint's reader refuses.
        PlanError: the disk is full.
        UsageError: ``folder`` cannot be written.
    """
    done = journal.restore(progress, partial(_paths_after, files)) if journal else Done()
    with ExitStack() as stack:
        lanes = stack.enter_context(Lanes(budget_bytes=memory.budget_bytes))
        writers = [
            stack.enter_context(
                FilesWriter(
                    folder,
                    of_rank,
                    lanes=lanes,
                    lane=1 + 2 * rank,
                    begun=done.begun,
                    num_done=done.num_tensors,
                    keep_part=journal is not None,
                )
            )
            for rank, of_rank in enumerate(files)
        ]
        splitter = _Splitter(checkpoint, plan, element, memory, lanes, writers)
        total = sum(checkpoint.tensors[name].size_bytes for name in plan.rules)
        title = f"splitting over {len(files)} rank{'s' if len(files) > 1 else ''}"
        with progress.stage(title, total=total, unit="bytes") as stage:
            digests = _go_on(splitter, plan, done, journal, stage)
        return digests, splitter.files()


def _paths_after(files: tuple[tuple[PlannedFile, ...], ...], num_tensors: int) -> set[str] | None:
    """The files that are begun when every rank has its first ``num_tensors`` tensors."""
    paths = set()
    for of_rank in files:
        left = num_tensors
        for file in of_rank:
            if left > 0:
                paths.add(file.path)
            left -= len(file.tensors)
        if left > 0:
            return None
    return paths


def _go_on(
    splitter: "_Splitter",
    plan: ParallelPlan,
    done: Done,
    journal: Journal | None,
    stage: Stage,
) -> dict[str, str]:
    digests, fresh, fresh_bytes = dict(done.digests), dict[str, "xxh3_128"](), 0
    num_stored = 0
    for name, rule in plan.rules.items():
        size_bytes = splitter.size_bytes(name)
        num_stored += 1 if rule.channel_dim is None else 2  # a quantised weight and its scales
        if num_stored <= done.num_tensors:
            stage.advance(size_bytes, note=name)
            continue
        fresh |= splitter.split(name, rule, stage)
        fresh_bytes += size_bytes
        if journal and fresh_bytes >= STEP_BYTES:
            files = splitter.files()  # first: it waits for the hashes too
            found = {key: digest.hexdigest() for key, digest in fresh.items()}
            journal.note(num_stored, found, files)
            digests.update(found)
            fresh, fresh_bytes = {}, 0
    splitter.lanes.drain()
    return {**digests, **{key: digest.hexdigest() for key, digest in fresh.items()}}


class _Splitter:
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
        self.lanes, self.writers = lanes, writers

    def size_bytes(self, name: str) -> int:
        return self.checkpoint.tensors[name].size_bytes

    def files(self) -> tuple[FileDigest, ...]:
        return tuple(file for writer in self.writers for file in writer.so_far())

    def split(self, name: str, rule: ParamRule, stage: Stage) -> dict[str, "xxh3_128"]:
        """Hand over all that rank files hold for parameter ``name``.

        The digests of the whole tensors, complete when the lanes are drained.
        """
        digest, scales = new_tensor_digest(), list[Array]()
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

    def _blocks(self, name: str, rule: ParamRule) -> Iterator[Block]:
        info = self.checkpoint.tensors[name]
        # A KV head that a rank holds twice comes round again, and a scale is of a whole channel:
        # such a tensor is read whole.
        in_blocks = is_in_order(rule) and rule.channel_dim in (None, 0)
        block_bytes = self.memory.block_bytes if in_blocks else info.size_bytes
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
