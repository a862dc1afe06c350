"""Opening a CHECKPOINT in any layout, those that need a parallel plan to be read among them."""

from dataclasses import replace
from pathlib import Path

from neuronc.checkpoint.checkpoint import Checkpoint, open_at
from neuronc.checkpoint.folder import has_weights
from neuronc.checkpoint.source import resolve_source
from neuronc.parallel.layouts.digested_reader import DigestedReader
from neuronc.parallel.layouts.nxdi import is_nxdi_folder, open_nxdi
from neuronc.parallel.split_manifest import read_layout, read_split_manifest


def open_any_checkpoint(source: str, *, revision: str | None = None) -> Checkpoint:
    """`neuronc.checkpoint.checkpoint.open_checkpoint`, and folders of NxD Inference besides.

    Whole weights win over rank files where a folder has both. Tensors that neuronc wrote are
    compared with the digests in ``split.json`` when they are read.

    Raises:
        InputError: The checkpoint is missing or damaged.
        UsageError: ``revision`` is given for something that has none.
        ToolchainError: A library for the file format is not installed.
    """
    path = resolve_source(source, revision=revision)
    if path.is_dir() and not has_weights(path) and is_nxdi_folder(path):
        return open_nxdi(path, source=source)
    checkpoint = open_at(path, source=source)
    if path.is_dir() and read_layout(path) == "transformers-neuronx":
        return replace(checkpoint, reader=_digested(checkpoint, path))
    return checkpoint


def _digested(checkpoint: Checkpoint, folder: Path) -> DigestedReader:
    split = read_split_manifest(folder, layout="transformers-neuronx")
    digests = {name: tensor.sha256 for name, tensor in split.tensors.items()}
    return DigestedReader(folder=folder, reader=checkpoint.reader, digests=digests)
