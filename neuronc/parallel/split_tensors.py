"""Apply a parallel plan: checkpoint in, the weight files of a layout out."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.checkpoint import Checkpoint, TensorInfo
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.digest import digest_array, sha256_file
from neuronc.checkpoint.paths import writing
from neuronc.checkpoint.safetensors_writer import SafetensorsWriter
from neuronc.checkpoint.source import portable_source
from neuronc.dtypes import COMPUTE_DTYPES, DTYPES, Dtype, numpy_dtype
from neuronc.errors import InputError, UsageError
from neuronc.families.model_config import read_model_config
from neuronc.parallel.cost import padding_cost
from neuronc.parallel.layouts.names import LAYOUTS, Layout, weight_paths
from neuronc.parallel.layouts.nxdi_config import write_neuron_config
from neuronc.parallel.layouts.parameter_files import state_dict_keys, write_parameter_files
from neuronc.parallel.model_names import named_as_model
from neuronc.parallel.model_tensors import check_complete, model_tensors
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.shards import cut_shard
from neuronc.parallel.split_manifest import (
    FileDigest,
    SplitManifest,
    SplitTensor,
    write_split_manifest,
)
from neuronc.parallel.stored import scale_name, store, stored_tensors
from neuronc.progress import SILENT, Progress

Array = np.ndarray[Any, Any]


def split_checkpoint(
    checkpoint: Checkpoint,
    out_dir: Path,
    *,
    tp: int,
    dtype: str,
    layout: Layout = "neuronc",
    quantize: str | None = None,
    progress: Progress = SILENT,
) -> SplitManifest:
    """Write ``checkpoint``'s weights, config and tokenizer into the existing folder ``out_dir``.

    Tensors are streamed: memory is one tensor, its cast copy and one rank's shard of it. The rank
    files are written side by side, so the checkpoint is read once. Layout
    ``transformers-neuronx`` imports torch.

    Args:
        checkpoint: An opened checkpoint.
        out_dir: Where to write.
        tp: Number of ranks.
        dtype: ``auto`` keeps the checkpoint's own element type.
        layout: Which files to write.
        quantize: How to store the weights of linear layers, a key of
            `neuronc.parallel.quantize.SCHEMES`; None stores them in ``dtype``.
        progress: Told of every tensor.

    Raises:
        InputError: a tensor is missing, one too many or of another shape, the config is not
            usable, or a value is too large for ``dtype``.
        PlanError: a dim cannot be split over ``tp`` ranks, or the disk is full.
        UsageError: ``dtype`` or ``tp`` is none, or ``layout`` is not made for ``tp`` ranks.
    """
    _check_layout(layout, tp, quantize)
    config = read_model_config(checkpoint.config, source=checkpoint.source)
    checkpoint = named_as_model(checkpoint, config)
    infos = model_tensors(checkpoint, config)
    element = resolve_dtype(infos, dtype, source=checkpoint.source)
    plan = plan_parallelism(config, {n: i.shape for n, i in infos.items()}, tp, quantize=quantize)
    check_complete(infos, config, source=checkpoint.source)
    read = partial(_read_as, checkpoint, element, plan.rules)
    if layout == "transformers-neuronx":
        keys = state_dict_keys(plan.rules, is_tied=config.tie_word_embeddings)
        digests, files = write_parameter_files(out_dir, plan, keys, read, element, progress)
    else:
        digests, files = _write_ranks(out_dir, plan, read, element, layout, progress)
    manifest = SplitManifest(
        layout=layout,
        source=portable_source(checkpoint.source),
        tp=tp,
        dtype=element.name,
        tensors={
            n: SplitTensor(rule=r, sha256=digests[n], scale_sha256=digests.get(scale_name(n)))
            for n, r in plan.rules.items()
        },
        files=(*files, *_write_companions(checkpoint, out_dir, plan, element, layout, progress)),
        padding=padding_cost(plan),
        quantize=quantize,
    )
    write_split_manifest(manifest, out_dir)
    return manifest


def _check_layout(layout: Layout, tp: int, quantize: str | None) -> None:
    if layout not in LAYOUTS:
        message = f"expected layout {', '.join(LAYOUTS)}; found {layout!r}"
        raise UsageError(message, hint="choose one with --layout")
    if layout == "transformers-neuronx" and tp != 1:
        message = f"layout {layout} holds whole tensors; it cannot be split over tp={tp} ranks"
        raise UsageError(message, hint="leave out --tp, or choose another --layout")
    if layout != "neuronc" and quantize is not None:
        message = f"layout {layout} has no form for --quantize {quantize}: it has no scales"
        raise UsageError(message, hint="leave out --quantize, or use --layout neuronc")


def _write_companions(
    checkpoint: Checkpoint,
    out_dir: Path,
    plan: ParallelPlan,
    element: Dtype,
    layout: Layout,
    progress: Progress,
) -> list[FileDigest]:
    with progress.stage("writing config and tokenizer"):
        names = list(write_companions(checkpoint, out_dir))
        if layout == "nxdi":
            names.append(write_neuron_config(checkpoint.config, out_dir, plan.tp, element))
    return [_digest(out_dir / name) for name in names]


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
    out_dir: Path,
    plan: ParallelPlan,
    read: Callable[[str], Array],
    element: Dtype,
    layout: Layout,
    progress: Progress,
) -> tuple[dict[str, str], list[FileDigest]]:
    """Write the rank files; the sha256 of every whole tensor, and what the files are."""
    infos = [
        TensorInfo(name=t.rule.name, shape=t.rule.rank_shape, dtype=DTYPES[t.dtype])
        for t in stored_tensors(plan.rules.values(), dtype=element.name, scheme=plan.quantize)
    ]
    digests: dict[str, str] = {}
    paths = weight_paths(plan.tp, layout)
    title = f"splitting over {plan.tp} rank{'s' if plan.tp > 1 else ''}"
    with ExitStack() as stack, progress.stage(title, total=len(infos), unit="tensors") as stage:
        writers = [_open_writer(stack, out_dir / path, infos) for path in paths]
        for name, rule in plan.rules.items():
            for stored, whole, own_rule in store(read(name), rule, plan.quantize):
                digests[stored] = digest_array(whole)
                for rank, writer in enumerate(writers):
                    writer.write(stored, cut_shard(whole, own_rule, rank))
            stage.advance(note=name)
        written = zip(paths, [writer.close() for writer in writers], strict=True)
    return digests, [
        FileDigest(path=path, size_bytes=w.size_bytes, sha256=w.sha256) for path, w in written
    ]


def _open_writer(stack: ExitStack, path: Path, infos: list[TensorInfo]) -> SafetensorsWriter:
    with writing(path.parent, needed_bytes=0):
        path.parent.mkdir(exist_ok=True)
    return stack.enter_context(SafetensorsWriter(path, infos))


def _read_as(
    checkpoint: Checkpoint, element: Dtype, rules: Mapping[str, ParamRule], name: str
) -> Array:
    array = checkpoint.reader.read(name)
    if rules[name].channel_dim is not None:  # quantised from what the checkpoint has, rounded once
        return array
    wanted = numpy_dtype(element)
    if array.dtype == wanted:
        return np.ascontiguousarray(array).reshape(array.shape)  # a scalar would get a dim
    with np.errstate(over="ignore", invalid="ignore"):
        cast = np.ascontiguousarray(array.astype(wanted)).reshape(array.shape)
    if np.isinf(cast).sum() > np.isinf(array).sum():
        message = f"tensor {name!r} of {checkpoint.source} has values too large for {element.name}"
        raise InputError(message, hint="pass --dtype bf16 or f32")
    return cast


def _digest(path: Path) -> FileDigest:
    return FileDigest(path=path.name, size_bytes=path.stat().st_size, sha256=sha256_file(path))
