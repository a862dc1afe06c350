"""Apply a parallel plan: checkpoint in, one safetensors file per rank out."""

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint, TensorInfo
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.safetensors_writer import SafetensorsWriter
from neuronc.checkpoint.source import portable_source
from neuronc.dtypes import COMPUTE_DTYPES, DTYPES, Dtype, numpy_dtype
from neuronc.errors import InputError, UsageError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.cost import padding_cost
from neuronc.parallel.model_tensors import check_complete, model_tensors, named_as_model
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.shards import cut_shard
from neuronc.parallel.split_manifest import (
    FileDigest,
    SplitManifest,
    SplitTensor,
    rank_file,
    write_split_manifest,
)
from neuronc.progress import SILENT, Progress


def split_checkpoint(
    checkpoint: Checkpoint, out_dir: Path, *, tp: int, dtype: str, progress: Progress = SILENT
) -> SplitManifest:
    """Write ``checkpoint``'s rank files, config and tokenizer into the existing folder ``out_dir``.

    Tensors are streamed: memory is one tensor, its cast copy and one rank's shard of it. The rank
    files are written side by side, so the checkpoint is read once.

    Args:
        checkpoint: An opened checkpoint.
        out_dir: Where to write.
        tp: Number of ranks.
        dtype: ``auto`` keeps the checkpoint's own element type.
        progress: Told of every tensor.

    Raises:
        InputError: a tensor is missing, one too many or of another shape, the config is not
            usable, or a value is too large for ``dtype``.
        PlanError: a dim cannot be split over ``tp`` ranks, or the disk is full.
        UsageError: ``dtype`` or ``tp`` is none.
    """
    config = read_model_config(checkpoint.config, source=checkpoint.source)
    checkpoint = named_as_model(checkpoint, config)
    infos = model_tensors(checkpoint, config)
    element = resolve_dtype(infos, dtype, source=checkpoint.source)
    plan = plan_parallelism(config, {n: i.shape for n, i in infos.items()}, tp)
    check_complete(infos, config, source=checkpoint.source)
    digests, files = _write_ranks(checkpoint, plan, element, out_dir, progress)
    with progress.stage("writing config and tokenizer"):
        names = write_companions(checkpoint, out_dir)
    files += [_digest(out_dir / name) for name in names]
    manifest = SplitManifest(
        source=portable_source(checkpoint.source),
        tp=tp,
        dtype=element.name,
        tensors={n: SplitTensor(rule=r, sha256=digests[n]) for n, r in plan.rules.items()},
        files=tuple(files),
        padding=padding_cost(plan),
    )
    write_split_manifest(manifest, out_dir)
    return manifest


def resolve_dtype(infos: dict[str, TensorInfo], dtype: str, *, source: str) -> Dtype:
    """``dtype``, or for ``auto`` the element type that most of the checkpoint's bytes have.

    Raises:
        InputError: the checkpoint's own element type is not one to compute in.
        UsageError: no such ``dtype``.
    """
    if dtype in COMPUTE_DTYPES:
        return DTYPES[dtype]
    if dtype != "auto":
        message = f"expected dtype auto, {', '.join(COMPUTE_DTYPES)}; found {dtype!r}"
        raise UsageError(message, hint="choose one with --dtype")
    size_by_dtype: dict[str, int] = {}
    for info in infos.values():
        size_by_dtype[info.dtype.name] = size_by_dtype.get(info.dtype.name, 0) + info.size_bytes
    name = max(size_by_dtype, key=lambda n: size_by_dtype[n], default="none")
    if name not in COMPUTE_DTYPES:
        message = f"{source} holds {name} weights; neuronc computes in {', '.join(COMPUTE_DTYPES)}"
        raise InputError(message, hint="choose one with --dtype")
    return DTYPES[name]


def _write_ranks(
    checkpoint: Checkpoint, plan: ParallelPlan, element: Dtype, out_dir: Path, progress: Progress
) -> tuple[dict[str, str], list[FileDigest]]:
    infos = [
        TensorInfo(name=name, shape=rule.rank_shape, dtype=element)
        for name, rule in plan.rules.items()
    ]
    digests: dict[str, str] = {}
    title = f"splitting over {plan.tp} rank{'s' if plan.tp > 1 else ''}"
    with ExitStack() as stack, progress.stage(title, total=len(infos), unit="tensors") as stage:
        writers = [
            stack.enter_context(SafetensorsWriter(out_dir / rank_file(rank), infos))
            for rank in range(plan.tp)
        ]
        for name, rule in plan.rules.items():
            whole = _read_as(checkpoint, name, element)
            digests[name] = hashlib.sha256(whole.reshape(-1).view(np.uint8).data).hexdigest()
            for rank, writer in enumerate(writers):
                writer.write(name, cut_shard(whole, rule, rank))
            stage.advance(note=name)
        written = [writer.close() for writer in writers]
    files = [FileDigest(path=w.name, size_bytes=w.size_bytes, sha256=w.sha256) for w in written]
    return digests, files


def _read_as(checkpoint: Checkpoint, name: str, element: Dtype) -> np.ndarray[Any, Any]:
    array = checkpoint.reader.read(name)
    wanted = numpy_dtype(element)
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array.astype(wanted))
    if np.isinf(cast).sum() > np.isinf(array).sum():
        message = f"tensor {name!r} of {checkpoint.source} has values too large for {element.name}"
        raise InputError(message, hint="pass --dtype bf16 or f32")
    return cast


def _digest(path: Path) -> FileDigest:
    return FileDigest(path=path.name, size_bytes=path.stat().st_size, sha256=sha256_file(path))
