"""The streaming part of a split: blocks of rows from the checkpoint into the files of all ranks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.blocks import blocks_of
from neuronc.checkpoint.cast import cast
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import FileDigest, new_tensor_digest
from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.dtypes import Dtype
from neuronc.errors import InputError
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import cut_rows, is_in_order
from neuronc.parallel.split_journal import STEP_BYTES, Done, Journal
from neuronc.parallel.split_memory import SplitMemory
from neuronc.progress import Progress, Stage

if TYPE_CHECKING:
    from xxhash import xxh3_128

Array = np.ndarray[Any, Any]


def write_ranks(
    checkpoint: Checkpoint,
    rules: Mapping[str, ParamRule],
    files: tuple[tuple[PlannedFile, ...], ...],
    folder: Path,
    *,
    element: Dtype,
    memory: SplitMemory,
    journal: Journal | None,
    progress: Progress,
) -> tuple[dict[str, str], tuple[FileDigest, ...]]:
    """Cut the tensors of ``rules`` and write the ``files`` of every rank into ``folder``.

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
    done = journal.restore(progress) if journal else Done()
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
        splitter = _Splitter(checkpoint, element, memory, lanes, writers)
        total = sum(checkpoint.tensors[name].size_bytes for name in rules)
        title = f"splitting over {len(files)} rank{'s' if len(files) > 1 else ''}"
        with progress.stage(title, total=total, unit="bytes") as stage:
            digests = _go_on(splitter, rules, done, journal, stage)
        return digests, splitter.files()


def _go_on(
    splitter: "_Splitter",
    rules: Mapping[str, ParamRule],
    done: Done,
    journal: Journal | None,
    stage: Stage,
) -> dict[str, str]:
    digests, fresh, fresh_bytes = dict(done.digests), dict[str, "xxh3_128"](), 0
    for number, (name, rule) in enumerate(rules.items()):
        size_bytes = splitter.size_bytes(name)
        if number < done.num_tensors:
            stage.advance(size_bytes, note=name)
            continue
        fresh[name] = splitter.split(name, rule, stage)
        fresh_bytes += size_bytes
        if journal and fresh_bytes >= STEP_BYTES:
            files = splitter.files()  # first: it waits for the hashes too
            found = {key: digest.hexdigest() for key, digest in fresh.items()}
            journal.note(number + 1, found, files)
            digests.update(found)
            fresh, fresh_bytes = {}, 0
    splitter.lanes.drain()
    return {**digests, **{key: digest.hexdigest() for key, digest in fresh.items()}}


class _Splitter:
    """Splits one tensor after the other."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        element: Dtype,
        memory: SplitMemory,
        lanes: Lanes,
        writers: list[FilesWriter],
    ) -> None:
        self.checkpoint, self.element, self.memory = checkpoint, element, memory
        self.lanes, self.writers = lanes, writers

    def size_bytes(self, name: str) -> int:
        return self.checkpoint.tensors[name].size_bytes

    def files(self) -> tuple[FileDigest, ...]:
        return tuple(file for writer in self.writers for file in writer.so_far())

    def split(self, name: str, rule: ParamRule, stage: Stage) -> "xxh3_128":
        """Hand over all of tensor ``name``; its digest is complete when the lanes are drained."""
        digest = new_tensor_digest()
        for start, rows, read_bytes in self._blocks(name, rule):
            data = rows.reshape(-1).view(np.uint8).data
            self.lanes.submit(0, len(data), partial(digest.update, data))
            for rank, writer in enumerate(self.writers):
                for part in cut_rows(rows, start, rule, rank):
                    writer.append(name, part)
            stage.advance(read_bytes, note=name)
        for writer in self.writers:
            writer.finish(name)
        return digest

    def _blocks(self, name: str, rule: ParamRule) -> Iterator[tuple[int, Array, int]]:
        info = self.checkpoint.tensors[name]
        # A KV head that a rank holds twice comes round again: its tensor is read whole.
        block_bytes = self.memory.block_bytes if is_in_order(rule) else info.size_bytes
        for block in blocks_of(self.checkpoint.reader, info, block_bytes=block_bytes):
            try:
                rows = cast(block.values, self.element)
            except OverflowError as error:
                message = f"tensor {name!r} of {self.checkpoint.source} has {error}"
                raise InputError(message, hint="pass --dtype bf16 or f32") from error
            rows = np.ascontiguousarray(rows).reshape(rows.shape)  # a scalar would get a dim
            yield block.start, rows, block.values.nbytes
