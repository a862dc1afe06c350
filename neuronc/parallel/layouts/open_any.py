"""Opening a CHECKPOINT in any layout, those that need a parallel plan to be read among them."""

from dataclasses import replace
from pathlib import Path

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.checkpoint import Checkpoint, open_at
from neuronc.checkpoint.folder import find_companions, has_weights, read_config
from neuronc.checkpoint.source import resolve_source
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES, holds
from neuronc.errors import InputError
from neuronc.parallel.layouts.digested_reader import DigestedRangeReader, DigestedReader
from neuronc.parallel.layouts.names import LAYOUTS, Layout
from neuronc.parallel.layouts.nxdi import is_nxdi_folder, open_nxdi
from neuronc.parallel.rank_files import open_ranks, whole_reader
from neuronc.parallel.split_manifest import SplitManifest, read_layout, read_split_manifest


def open_any_checkpoint(source: str, *, revision: str | None = None) -> Checkpoint:
    """`neuronc.checkpoint.checkpoint.open_checkpoint`, and folders that are split already.

    Whole weights win over rank files where a folder has both. Tensors that neuronc wrote are
    compared with the digests in ``split.json`` when they are read.

    Raises:
        InputError: The checkpoint is missing or damaged.
        UsageError: ``revision`` is given for something that has none.
        ToolchainError: A library for the file format is not installed.
    """
    path = resolve_source(source, revision=revision)
    if path.is_dir() and not has_weights(path) and is_nxdi_folder(path):
        return _with_origins(open_nxdi(path, source=source), "nxdi")
    if path.is_dir() and not has_weights(path) and read_layout(path) == "neuronc":
        return _compared(*_open_ranks(path, source))
    checkpoint = open_at(path, source=source)
    if path.is_dir() and read_layout(path) == "transformers-neuronx":
        return _with_origins(_digested(checkpoint, path), "transformers-neuronx")
    return checkpoint


def open_split(folder: Path) -> tuple[Checkpoint, SplitManifest]:
    """The whole tensors of a split folder in any layout, and its manifest.

    Raises:
        InputError: not a split folder of neuronc, or damaged.
    """
    found = read_layout(folder) if folder.is_dir() else None
    layout: Layout = next((known for known in LAYOUTS if known == found), "neuronc")
    if layout != "neuronc":
        split = read_split_manifest(folder, layout=layout)
        return open_any_checkpoint(str(folder)), split
    return _open_ranks(folder, str(folder))


def _open_ranks(folder: Path, source: str) -> tuple[Checkpoint, SplitManifest]:
    split = read_split_manifest(folder)
    if split.quantize is not None:
        message = f"{folder} holds {split.quantize} weights; the original ones are not in it"
        raise InputError(message, hint="use the checkpoint that it was made of")
    dtype = DTYPES[split.dtype]
    rules = {name: tensor.rule for name, tensor in split.tensors.items()}
    checkpoint = Checkpoint(
        source=source,
        path=folder,
        config=read_config(folder),
        tensors={
            name: TensorInfo(name=name, shape=rule.shape, dtype=dtype)
            for name, rule in rules.items()
        },
        companions=find_companions(folder),
        reader=whole_reader(folder, rules, open_ranks(folder, split)),
        origins=_origins(split),
    )
    return checkpoint, split


def _compared(checkpoint: Checkpoint, split: SplitManifest) -> Checkpoint:
    """``checkpoint``, its tensors compared with their digests; a linked split has none."""
    digests = {name: tensor.digest for name, tensor in split.tensors.items() if tensor.digest}
    folder, reader = checkpoint.path, checkpoint.reader
    if not isinstance(reader, RangeReader):
        return replace(
            checkpoint, reader=DigestedReader(folder=folder, reader=reader, digests=digests)
        )
    compared = DigestedRangeReader(
        folder=folder, reader=reader, digests=digests, infos=checkpoint.tensors
    )
    return replace(checkpoint, reader=compared)


def _with_origins(checkpoint: Checkpoint, layout: Layout) -> Checkpoint:
    if read_layout(checkpoint.path) != layout:
        return checkpoint  # another tool wrote it
    split = read_split_manifest(checkpoint.path, layout=layout)
    return replace(checkpoint, origins=_origins(split))


def _origins(split: SplitManifest) -> dict[str, tuple[TensorInfo, ...]]:
    """What each parameter was made of, with the dtype that it has been rounded to since."""
    dtype = DTYPES[split.dtype]
    return {
        name: tuple(
            origin if holds(dtype, origin.dtype) else replace(origin, dtype=dtype)
            for origin in tensor.origins
        )
        for name, tensor in split.tensors.items()
    }


def _digested(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    split = read_split_manifest(folder, layout="transformers-neuronx")
    digests = {name: tensor.digest for name, tensor in split.tensors.items()}
    reader = DigestedReader(folder=folder, reader=checkpoint.reader, digests=digests)
    return replace(checkpoint, reader=reader)
