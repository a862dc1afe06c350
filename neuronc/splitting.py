"""Splitting a checkpoint, and putting a split together again: what needs nothing of a compiler.

Apart from `neuronc.pipeline`, whose other stages take longer to import than a small model to split.
"""

from pathlib import Path

from neuronc.artifact.atomic import atomic_folder, check_output, require_apart, resumable_folder
from neuronc.artifact.weights import open_for
from neuronc.checkpoint.shrinking_files import shrinking_files_noticed
from neuronc.parallel.split_manifest import SplitManifest
from neuronc.parallel.split_options import DEFAULT_SPLIT, SplitOptions
from neuronc.parallel.split_tensors import split_checkpoint
from neuronc.parallel.unsplit import Unsplit, unsplit_folder
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Recipe


def split(
    recipe: Recipe,
    out_dir: Path,
    *,
    options: SplitOptions = DEFAULT_SPLIT,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> SplitManifest:
    """Split ``recipe``'s checkpoint over its ranks into the new folder ``out_dir``.

    What was interrupted, or had no room on the disk, is gone on with by the same call.
    """
    require_apart(out_dir, "checkpoint", recipe.checkpoint)
    require_apart(out_dir, "adapter", recipe.adapter)
    check_output(out_dir, overwrite=overwrite)
    checkpoint = open_for(recipe)
    with (
        shrinking_files_noticed(checkpoint.source),
        resumable_folder(out_dir, overwrite=overwrite) as folder,
    ):
        return split_checkpoint(
            checkpoint,
            folder,
            tp=recipe.tp,
            dtype=recipe.dtype,
            options=options,
            quantize=recipe.quantize,
            resumable=True,
            progress=progress,
        )


def unsplit(
    folder: Path,
    out_dir: Path,
    *,
    max_file_bytes: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Unsplit:
    """Put the split in ``folder`` together again as a checkpoint in the new folder ``out_dir``."""
    require_apart(out_dir, "split folder", folder)
    check_output(out_dir, overwrite=overwrite)
    with (
        shrinking_files_noticed(folder),
        atomic_folder(out_dir, overwrite=overwrite) as staging,
    ):
        return unsplit_folder(folder, staging, max_file_bytes=max_file_bytes, progress=progress)
