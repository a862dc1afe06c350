"""The streaming part of a split: blocks of rows from the checkpoint into the files of all ranks."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.digest import FileDigest
from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.process_memory import keep_freed_memory
from neuronc.dtypes import Dtype
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.split_journal import STEP_BYTES, Done, Journal
from neuronc.parallel.split_memory import SplitMemory
from neuronc.parallel.tensor_splitter import TensorSplitter
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
    keep_freed_memory(2 * memory.budget_bytes, array_bytes=2 * memory.block_bytes)
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
                    buffer_bytes=memory.buffer_bytes(len(files)),
                )
            )
            for rank, of_rank in enumerate(files)
        ]
        splitter = TensorSplitter(checkpoint, plan, element, memory, lanes, writers)
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
    splitter: "TensorSplitter",
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
