"""Putting a split together again: the checkpoint's own tensors, bit for bit."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.blocks import blocks_of
from neuronc.checkpoint.cast import cast
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.digest import new_tensor_digest
from neuronc.checkpoint.files_writer import FilesWriter, PlannedFile
from neuronc.checkpoint.folder import SAFETENSORS
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.paths import disk_full, free_bytes, writing
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES, Dtype, holds
from neuronc.errors import InputError
from neuronc.parallel.layouts.open_any import open_split
from neuronc.parallel.split_manifest import SplitTensor, check_files
from neuronc.parallel.split_memory import SplitMemory
from neuronc.progress import SILENT, Progress, Stage

if TYPE_CHECKING:
    from xxhash import xxh3_128

Array = np.ndarray[Any, Any]

DEFAULT_FILE_BYTES = 5_000_000_000
"""Of a part of a checkpoint: what transformers' ``save_pretrained`` wrote for years."""

_METADATA = {"format": "pt"}
"""What transformers asks of a safetensors file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsplit:
    """A checkpoint put together.

    Attributes:
        files: Its weight files, in order.
        num_tensors: Tensors in them.
        size_bytes: Of the files together.
        narrowed: Tensors that the split holds in a narrower dtype than the checkpoint had: their
            values are the split's.
        left_out: Tensors of the checkpoint that the split did not take.
        adapter: Name of the LoRA adapter that is merged into them, if there is one.
    """

    files: tuple[str, ...]
    num_tensors: int
    size_bytes: int
    narrowed: tuple[str, ...]
    left_out: tuple[str, ...]
    adapter: str | None


def unsplit_folder(
    folder: Path,
    out_dir: Path,
    *,
    max_file_bytes: int | None = None,
    progress: Progress = SILENT,
) -> Unsplit:
    """Write the checkpoint that the split in ``folder`` was made of into the folder ``out_dir``.

    Padding and second copies are dropped, after they were compared with what they must be; every
    tensor has its own name and dtype again, and is compared with its digest. A tensor that was cast
    to a wider dtype is exact again; one that was cast to a narrower one stays as the split has it,
    in the split's dtype. Blocks are streamed.

    Args:
        folder: A split folder, in any layout.
        out_dir: An existing folder.
        max_file_bytes: Of a weight file; None is `DEFAULT_FILE_BYTES`.
        progress: Told of every block.

    Raises:
        InputError: no split folder, or damaged.
        PlanError: the disk is full.
        UsageError: ``out_dir`` cannot be written.
    """
    checkpoint, split = open_split(folder)
    origins = [origin for tensor in split.tensors.values() for origin in tensor.origins]
    _check_names(folder, [origin.name for origin in origins])
    check_files(folder, tuple(file for file in split.files if _is_companion(file.path)))
    infos = {origin.name: _stored_as(origin, DTYPES[split.dtype]) for origin in origins}
    files = _plan(list(infos.values()), max_file_bytes or DEFAULT_FILE_BYTES)
    total = sum(info.size_bytes for info in infos.values())
    if free_bytes(out_dir) < total:
        raise disk_full(out_dir / SAFETENSORS, needed_bytes=total)
    memory = SplitMemory.within(None)
    with (
        Lanes(budget_bytes=memory.budget_bytes) as lanes,
        FilesWriter(out_dir, files, lanes=lanes, lane=1, metadata=_METADATA) as writer,
        progress.stage("putting ranks together", total=total, unit="bytes") as stage,
    ):
        joiner = _Joiner(checkpoint, infos, memory, lanes, writer, stage)
        digests = {name: joiner.join(name, tensor) for name, tensor in split.tensors.items()}
        written = writer.so_far()
    _check_digests(folder, digests, split.tensors)
    _write_index(files, out_dir, total)
    with progress.stage("writing config and tokenizer"):
        write_companions(checkpoint, out_dir)
    return Unsplit(
        files=tuple(file.path for file in files),
        num_tensors=len(infos),
        size_bytes=sum(file.size_bytes for file in written),
        narrowed=tuple(o.name for o in origins if infos[o.name].dtype != o.dtype),
        left_out=split.left_out,
        adapter=split.adapter.name if split.adapter else None,
    )


def _is_companion(path: str) -> bool:
    """Whether it is no weight file: those are compared while they are read."""
    return "/" not in path and not path.endswith(".safetensors")


def _check_names(folder: Path, names: list[str]) -> None:
    if len(set(names)) < len(names) or "__metadata__" in names:
        odd = next(name for name in names if names.count(name) > 1 or name == "__metadata__")
        message = f"{folder} says of two parameters, or of none, that they were {odd!r}"
        raise InputError(message, hint="copy the folder again, or split the checkpoint again")


def _stored_as(origin: TensorInfo, split_dtype: Dtype) -> TensorInfo:
    """What is written for ``origin``: its own dtype where the split's holds all of its values."""
    dtype = origin.dtype if holds(split_dtype, origin.dtype) else split_dtype
    return TensorInfo(name=origin.name, shape=origin.shape, dtype=dtype)


def _plan(infos: list[TensorInfo], max_file_bytes: int) -> tuple[PlannedFile, ...]:
    """The weight files; a tensor that is larger than one has one of its own."""
    groups: list[list[TensorInfo]] = [[]]
    filled = 0
    for info in infos:
        if groups[-1] and filled + info.size_bytes > max_file_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(info)
        filled += info.size_bytes
    count = len(groups)
    names = [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    paths = names if count > 1 else [SAFETENSORS]
    return tuple(
        PlannedFile(path=path, tensors=tuple(group))
        for path, group in zip(paths, groups, strict=True)
    )


class _Joiner:
    """Puts one parameter together after the other."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        infos: Mapping[str, TensorInfo],
        memory: SplitMemory,
        lanes: Lanes,
        writer: FilesWriter,
        stage: Stage,
    ) -> None:
        self.checkpoint, self.infos, self.memory = checkpoint, infos, memory
        self.lanes, self.writer, self.stage = lanes, writer, stage

    def join(self, name: str, tensor: SplitTensor) -> "xxh3_128":
        """Hand over parameter ``name``; its digest is complete when the lanes are drained."""
        digest = new_tensor_digest()
        rows = self._rows(name, digest)
        if tensor.origins[0].shape == tensor.rule.shape:
            self._write(tensor.origins[0], rows)
            return digest
        rest: Array | None = None
        for origin in tensor.origins:
            rest = self._write_part(origin, rows, rest)
        return digest

    def _rows(self, name: str, digest: "xxh3_128") -> Iterator[Array]:
        info = self.checkpoint.tensors[name]
        for block in blocks_of(self.checkpoint.reader, info, block_bytes=self.memory.block_bytes):
            values = np.ascontiguousarray(block.values).reshape(block.values.shape)
            data = values.reshape(-1).view(np.uint8).data
            self.lanes.submit(0, len(data), partial(digest.update, data))
            yield values

    def _write(self, origin: TensorInfo, blocks: Iterator[Array]) -> None:
        for values in blocks:
            self._append(origin, values)
        self.writer.finish(origin.name)

    def _write_part(
        self, origin: TensorInfo, blocks: Iterator[Array], rest: Array | None
    ) -> Array | None:
        """One matrix of the stack, from ``rest`` and the next blocks; what is left of the last."""
        missing = origin.shape[0]
        while missing:
            rows = next(blocks) if rest is None or not len(rest) else rest
            rows = rows.reshape(-1, origin.shape[1])
            self._append(origin, rows[:missing])
            missing, rest = missing - len(rows[:missing]), rows[missing:]
        self.writer.finish(origin.name)
        return rest

    def _append(self, origin: TensorInfo, values: Array) -> None:
        info = self.infos[origin.name]
        found = cast(values, info.dtype)
        self.writer.append(info.name, found)
        self.stage.advance(found.nbytes, note=info.name)


def _check_digests(
    folder: Path, digests: Mapping[str, "xxh3_128"], tensors: Mapping[str, SplitTensor]
) -> None:
    for name, digest in digests.items():
        if tensors[name].digest and digest.hexdigest() != tensors[name].digest:
            message = f"{name!r} of {folder} is not the tensor that was split"
            raise InputError(message, hint="copy the folder again, or split the checkpoint again")


def _write_index(files: tuple[PlannedFile, ...], out_dir: Path, total_bytes: int) -> None:
    """``model.safetensors.index.json``, where there are several files."""
    if len(files) == 1:
        return
    places = {info.name: file.path for file in files for info in file.tensors}
    index = {"metadata": {"total_size": total_bytes}, "weight_map": places}
    path = out_dir / f"{SAFETENSORS}.index.json"
    text = json.dumps(index, indent=2, ensure_ascii=False) + "\n"
    with writing(path, needed_bytes=len(text)):
        path.write_text(text, encoding="utf-8")
