"""Apply a parallel plan: checkpoint in, the weight files of a layout out."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuronc import __version__
from neuronc.checkpoint.cast import cast
from neuronc.checkpoint.checkpoint import Checkpoint, TensorInfo
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.fingerprint import FileStat, file_stats
from neuronc.checkpoint.paths import disk_full, free_bytes
from neuronc.checkpoint.remote.mirror import mirror_of
from neuronc.checkpoint.source import portable_source
from neuronc.dtypes import COMPUTE_DTYPES, DTYPES, Dtype
from neuronc.errors import InputError, UsageError
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.begin_alike import begin_alike
from neuronc.parallel.cost import padding_cost
from neuronc.parallel.layouts.nxdi_config import write_neuron_config
from neuronc.parallel.layouts.parameter_files import state_dict_keys, write_parameter_files
from neuronc.parallel.link_checkpoint import link_checkpoint
from neuronc.parallel.model_names import named_as_model
from neuronc.parallel.model_tensors import check_complete, model_tensors
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.plan_files import plan_files
from neuronc.parallel.split_journal import Journal
from neuronc.parallel.split_manifest import SplitManifest, SplitTensor, write_split_manifest
from neuronc.parallel.split_memory import SplitMemory, check_fits
from neuronc.parallel.split_options import DEFAULT_SPLIT, SplitOptions
from neuronc.parallel.stored import scale_name, stored_tensors
from neuronc.parallel.write_ranks import write_ranks
from neuronc.progress import SILENT, Progress

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """A split that was checked and may begin."""

    checkpoint: Checkpoint
    plan: ParallelPlan
    infos: Mapping[str, TensorInfo]
    element: Dtype
    config: ModelConfig
    options: SplitOptions
    out_dir: Path
    progress: Progress


def split_checkpoint(
    checkpoint: Checkpoint,
    out_dir: Path,
    *,
    tp: int,
    dtype: str,
    options: SplitOptions = DEFAULT_SPLIT,
    quantize: str | None = None,
    resumable: bool = False,
    progress: Progress = SILENT,
) -> SplitManifest:
    """Write ``checkpoint``'s weights, config and tokenizer into the existing folder ``out_dir``.

    Blocks of rows are streamed into the files of all ranks: the checkpoint is read once, and memory
    is some blocks, or one tensor for formats that cannot be read in parts (GGUF). Layout
    ``transformers-neuronx`` imports torch, and holds one tensor.

    Args:
        checkpoint: An opened checkpoint.
        out_dir: Where to write.
        tp: Number of ranks.
        dtype: ``auto`` keeps the checkpoint's own element type.
        options: Layout and limits.
        quantize: How to store the weights of linear layers, a key of
            `neuronc.parallel.quantize.SCHEMES`; None stores them in ``dtype``.
        resumable: Keep a journal in ``out_dir``, go on with what it says is done, and leave all
            that when interrupted or when the disk is full.
        progress: Told of every block.

    Raises:
        InputError: a tensor is missing, one too many or of another shape, the config is not
            usable, a value is too large for ``dtype``, or the checkpoint changed meanwhile.
        PlanError: a dim cannot be split over ``tp`` ranks, the disk is full, or a tensor is larger
            than the memory allowed.
        UsageError: ``dtype`` or ``tp`` is none, options contradict each other, or another process
            is writing into ``out_dir``.
    """
    options.check(tp, quantize)
    before = _stats(checkpoint)
    work = _prepare(checkpoint, out_dir, tp, dtype, options, quantize, progress)
    if not resumable:
        return _finish(work, *_write_weights(work, None), before)
    with closing(Journal(out_dir, _request(work, tp, before))) as journal:
        try:
            manifest = _finish(work, *_write_weights(work, journal), before)
        except BaseException as error:
            if isinstance(error, InputError) or not journal.has_lines:
                journal.forget()
            raise
        journal.delete()
        return manifest


def _prepare(
    checkpoint: Checkpoint,
    out_dir: Path,
    tp: int,
    dtype: str,
    options: SplitOptions,
    quantize: str | None,
    progress: Progress,
) -> _Work:
    config = read_model_config(checkpoint.config, source=checkpoint.source)
    named = named_as_model(checkpoint, config)
    infos = model_tensors(named, config)
    element = resolve_dtype(infos, dtype, source=checkpoint.source)
    plan = plan_parallelism(config, {n: i.shape for n, i in infos.items()}, tp, quantize=quantize)
    check_complete(infos, config, source=checkpoint.source)
    check_fits(named.reader, infos, options)
    return _Work(
        checkpoint=named,
        plan=plan,
        infos=infos,
        element=element,
        config=config,
        options=options,
        out_dir=out_dir,
        progress=progress,
    )


def _request(work: _Work, tp: int, stats: list[FileStat]) -> dict[str, Any]:
    """What an unfinished split has to have been begun with to be gone on with."""
    return {
        "neuronc": __version__,
        "checkpoint": stats,
        "tp": tp,
        "dtype": work.element.name,
        "quantize": work.plan.quantize,
        "layout": work.options.layout,
        "max_file_bytes": work.options.max_file_bytes,
        "link": work.options.link,
        "adapter": asdict(work.checkpoint.adapter) if work.checkpoint.adapter else None,
    }


def _write_weights(
    work: _Work, journal: Journal | None
) -> tuple[Mapping[str, str], tuple[FileDigest, ...]]:
    """The digest of every whole tensor by name, and the files."""
    plan, options = work.plan, work.options
    if options.link:
        return {}, ()
    if options.layout == "transformers-neuronx":
        keys = state_dict_keys(plan.rules, is_tied=work.config.tie_word_embeddings)
        read = partial(_read_as, work.checkpoint, work.element)
        return write_parameter_files(
            work.out_dir, plan, keys, read, work.element, journal, work.progress
        )
    stored = stored_tensors(plan.rules.values(), dtype=work.element.name, scheme=plan.quantize)
    files = plan_files(stored, plan.tp, options.layout, options.max_file_bytes)
    files = begin_alike(files, work.checkpoint, plan.rules, work.element)
    needed = sum(file.size_bytes for of_rank in files for file in of_rank)
    needed -= sum(path.stat().st_size for path in work.out_dir.rglob("*") if path.is_file())
    if free_bytes(work.out_dir) < needed:
        raise disk_full(work.out_dir / files[0][0].path, needed_bytes=needed)
    return write_ranks(
        work.checkpoint,
        plan,
        files,
        work.out_dir,
        element=work.element,
        memory=SplitMemory.within(
            options.max_memory_bytes, is_remote=mirror_of(work.checkpoint.path) is not None
        ),
        journal=journal,
        progress=work.progress,
    )


def _finish(
    work: _Work,
    digests: Mapping[str, str],
    files: tuple[FileDigest, ...],
    before: list[FileStat],
) -> SplitManifest:
    checkpoint, plan = work.checkpoint, work.plan
    if _stats(checkpoint) != before:
        what = f", or adapter {checkpoint.adapter.name}," if checkpoint.adapter else ""
        message = f"{checkpoint.source}{what} changed while it was split"
        raise InputError(message, hint="leave the checkpoint alone, and split it again")
    left_out = [name for name in checkpoint.tensors if name not in plan.rules]
    linked = link_checkpoint(checkpoint, plan.rules, work.element) if work.options.link else None
    manifest = SplitManifest(
        layout=work.options.layout,
        source=portable_source(checkpoint.source),
        tp=plan.tp,
        dtype=work.element.name,
        tensors={
            name: SplitTensor(
                rule=rule,
                digest=digests.get(name, ""),
                origins=origins_of(checkpoint, name),
                scale_digest=digests.get(scale_name(name)),
            )
            for name, rule in plan.rules.items()
        },
        files=(*files, *_write_companions(work)),
        padding=padding_cost(plan, work.config),
        left_out=tuple(o.name for name in left_out for o in origins_of(checkpoint, name)),
        linked=linked,
        adapter=checkpoint.adapter,
        quantize=plan.quantize,
    )
    write_split_manifest(manifest, work.out_dir)
    return manifest


def _stats(checkpoint: Checkpoint) -> list[FileStat]:
    """Of every file that is read."""
    folder = checkpoint.adapter_folder
    return file_stats(checkpoint.path) + ([] if folder is None else file_stats(folder))


def origins_of(checkpoint: Checkpoint, name: str) -> tuple[TensorInfo, ...]:
    """What the parameter ``name`` is made of in the checkpoint's own names."""
    return checkpoint.origins.get(name) or (checkpoint.tensors[name],)


def _write_companions(work: _Work) -> list[FileDigest]:
    with work.progress.stage("writing config and tokenizer"):
        names = list(write_companions(work.checkpoint, work.out_dir))
        if work.options.layout == "nxdi":
            config, tp = work.checkpoint.config, work.plan.tp
            names.append(write_neuron_config(config, work.out_dir, tp, work.element))
    return [_digest(work.out_dir / name) for name in names]


def resolve_dtype(infos: Mapping[str, TensorInfo], dtype: str, *, source: str) -> Dtype:
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


def _read_as(checkpoint: Checkpoint, element: Dtype, name: str) -> Array:
    array = checkpoint.reader.read(name)
    try:
        found = cast(array, element)
    except OverflowError as error:
        message = f"tensor {name!r} of {checkpoint.source} has {error}"
        raise InputError(message, hint="pass --dtype bf16 or f32") from error
    return np.ascontiguousarray(found).reshape(found.shape)  # a scalar would get a dim


def _digest(path: Path) -> FileDigest:
    return FileDigest(path=path.name, size_bytes=path.stat().st_size, sha256=sha256_file(path))
