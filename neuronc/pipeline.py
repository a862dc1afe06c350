"""The stages in order: checkpoint, plan, split, trace, lower, compile, artifact, verify."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronc.artifact.atomic import atomic_folder, check_output
from neuronc.artifact.contents import make_manifest
from neuronc.artifact.link import link_files
from neuronc.artifact.manifest import (
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    read_manifest,
    write_manifest,
)
from neuronc.artifact.neffs import add_neffs, write_commands
from neuronc.artifact.reuse import describe_request, find_reusable
from neuronc.checkpoint.checkpoint import Checkpoint, open_checkpoint
from neuronc.checkpoint.folder import read_config
from neuronc.errors import PlanError, UsageError, VerificationError
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.lower.jobs import ProgramJob, run_jobs
from neuronc.parallel.split_manifest import (
    SPLIT_FILE,
    SplitManifest,
    check_files,
    read_split_manifest,
)
from neuronc.parallel.split_tensors import split_checkpoint
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Place, Recipe
from neuronc.targets.neuron.settings import CompileOptions, NeuronSettings, neuron_settings
from neuronc.trace.program_spec import ProgramSpec, list_programs

DEFAULT_MAX_LENGTH = 2048
"""Cache positions per slot where neither the user nor the model says less."""
DEFAULT_PREFILL_BUCKETS = (32, 128, 512)
DEFAULT_OPTIONS = CompileOptions()


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An artifact on disk.

    Attributes:
        folder: Where it is.
        manifest: Its manifest, with the verification result if there is one.
        split: Manifest of its weights.
        worker_peak_rss_bytes: Largest resident memory of a compiling worker; 0 if none ran.
        elapsed_s: Wall time of everything.
        reused: The artifact was there already.
    """

    folder: Path
    manifest: Manifest
    split: SplitManifest
    worker_peak_rss_bytes: int
    elapsed_s: float
    reused: bool = False


def split(
    recipe: Recipe, out_dir: Path, *, overwrite: bool = False, progress: Progress = SILENT
) -> SplitManifest:
    """Split ``recipe``'s checkpoint over its ranks into the new folder ``out_dir``."""
    _check_places(recipe, out_dir, None)
    check_output(out_dir, overwrite=overwrite)
    checkpoint = open_checkpoint(recipe.checkpoint, revision=recipe.revision)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        return split_checkpoint(
            checkpoint, folder, tp=recipe.tp, dtype=recipe.dtype, progress=progress
        )


def build(
    recipe: Recipe,
    out_dir: Path,
    *,
    verify: bool = True,
    overwrite: bool = False,
    dump_ir: Path | None = None,
    options: CompileOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> Built:
    """Make a verified artifact of ``recipe`` in the new folder ``out_dir``.

    ``recipe.checkpoint`` may be a split folder, which then has to have the recipe's tp degree and
    dtype. Nothing appears at ``out_dir`` unless everything succeeded, verification included.

    For a Neuron target the lowered programs are verified on XLA:CPU, before neuronx-cc is started.

    Raises:
        NeuroncError: what any stage refuses; see `neuronc.errors`.
    """
    begin = time.perf_counter()
    settings = settings_for(recipe, options)
    _check_places(recipe, out_dir, dump_ir)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        checkpoint, weights = _put_weights(recipe, folder / WEIGHTS_DIR, progress)
        config = _config_of(folder / WEIGHTS_DIR, weights)
        asked, recipe = recipe, complete(recipe, config)
        specs = list_programs(
            batch_size=recipe.batch_size,
            max_length=recipe.max_length or DEFAULT_MAX_LENGTH,
            prefill_buckets=recipe.prefill_buckets,
            decode_buckets=recipe.decode_buckets,
        )
        jobs = [_job(spec, config, weights, dump_ir, recipe.target) for spec in specs]
        peak = run_jobs(jobs, folder / PROGRAMS_DIR, progress=progress)
        neuron = None if settings is None else _check_lowered(folder, specs, settings, progress)
        request = describe_request(asked)
        manifest = make_manifest(folder, recipe, weights, specs, request=request, neuron=neuron)
        write_manifest(manifest, folder)
        if verify:
            manifest, error = _record_verification(folder, checkpoint, progress)
            if error is not None:
                raise error
        if settings is not None and settings.compiler is not None:
            manifest = add_neffs(folder, manifest, settings.compiler, options, progress=progress)
        return Built(
            folder=out_dir,
            manifest=manifest,
            split=weights,
            worker_peak_rss_bytes=peak,
            elapsed_s=time.perf_counter() - begin,
        )


def build_cached(
    recipe: Recipe,
    out_dir: Path,
    *,
    verify: bool = True,
    overwrite: bool = False,
    dump_ir: Path | None = None,
    options: CompileOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> Built:
    """`build`, unless ``out_dir`` holds just that artifact already: then it is checked and kept.

    Raises:
        UsageError: ``out_dir`` holds something else; the message says what differs.
    """
    begin = time.perf_counter()
    settings_for(recipe, options)  # refuses wrong ones also where nothing is to be done
    manifest = None
    if not overwrite:
        manifest = find_reusable(
            out_dir, recipe, need_verified=verify, want_bundle=options.lower_only
        )
    if manifest is None:
        return build(
            recipe,
            out_dir,
            verify=verify,
            overwrite=overwrite,
            dump_ir=dump_ir,
            options=options,
            progress=progress,
        )
    with progress.stage("checking the artifact that is there"):
        check_files(out_dir, manifest.files)
    return Built(
        folder=out_dir,
        manifest=manifest,
        split=read_split_manifest(out_dir / WEIGHTS_DIR),
        worker_peak_rss_bytes=0,
        elapsed_s=time.perf_counter() - begin,
        reused=True,
    )


def verify(
    folder: Path,
    checkpoint_source: str | None,
    *,
    on: Place = "cpu",
    progress: Progress = SILENT,
) -> tuple[Manifest, VerificationError | None]:
    """Verify an artifact and record the result in its manifest; the error is None if it passed.

    Args:
        folder: The artifact.
        checkpoint_source: Where the reference's weights come from; None puts the shards together.
        on: Where to run it; a Neuron artifact's programs run on the CPU as well.
        progress: Told of every stage.
    """
    checkpoint = open_checkpoint(checkpoint_source) if checkpoint_source else None
    return _record_verification(folder, checkpoint, progress, on=on)


def _record_verification(
    folder: Path, checkpoint: Checkpoint | None, progress: Progress, *, on: Place = "cpu"
) -> tuple[Manifest, VerificationError | None]:
    from neuronc.verify.verify import failure, verify_artifact

    found = verify_artifact(folder, checkpoint=checkpoint, on=on, progress=progress)
    manifest = replace(read_manifest(folder), verification=found.to_dict())
    if manifest.neuron is not None and found.target == manifest.target:
        proven = {**manifest.neuron, "hardware": "verified on a Neuron device"}
        manifest = replace(manifest, neuron=proven)
    if os.access(folder, os.W_OK):
        write_manifest(manifest, folder)
    return manifest, failure(found, "the artifact")


def complete(recipe: Recipe, config: ModelConfig) -> Recipe:
    """``recipe`` with every size decided.

    Raises:
        PlanError: max length beyond the model's positions, or a bucket beyond max length.
    """
    positions = config.max_positions or DEFAULT_MAX_LENGTH
    window = config.attention_window
    max_length = recipe.max_length or min(positions, window or positions, DEFAULT_MAX_LENGTH)
    if window is not None and window < max_length <= positions:
        message = f"max length {max_length} is beyond the model's attention window of {window}"
        raise PlanError(message, hint=f"pass --max-length {window}; masks of windows are to come")
    if max_length > positions:
        message = f"max length {max_length} is beyond the model's {positions} positions"
        raise PlanError(message, hint=f"pass --max-length {positions} or less")
    prefill = recipe.prefill_buckets or tuple(
        sorted({min(b, max_length) for b in DEFAULT_PREFILL_BUCKETS})
    )
    decode = recipe.decode_buckets or (max_length,)
    for name, buckets in (("prefill", prefill), ("decode", decode)):
        if buckets[-1] > max_length:
            message = f"{name} bucket {buckets[-1]} is larger than max length {max_length}"
            raise PlanError(message, hint="drop it or raise --max-length")
    if decode[-1] < max_length:
        decode = (*decode, max_length)  # the last positions need a program too
    return replace(recipe, max_length=max_length, prefill_buckets=prefill, decode_buckets=decode)


def settings_for(recipe: Recipe, options: CompileOptions) -> NeuronSettings | None:
    """Settings of a Neuron target, None for the CPU.

    Raises:
        UsageError: an option that only Neuron targets have.
        NeuroncError: what `neuron_settings` refuses.
    """
    if recipe.target != "cpu":
        return neuron_settings(recipe, options)
    if options != DEFAULT_OPTIONS:
        message = "--lower-only and the options of neuronx-cc are for Neuron targets"
        raise UsageError(message, hint="pass --target inf2, trn1, trn1n, trn2 or trn3")
    return None


def _check_lowered(
    folder: Path, specs: tuple[ProgramSpec, ...], settings: NeuronSettings, _progress: Progress
) -> dict[str, Any]:
    """Pre-flight of what neuronx-cc is going to read; the ``neuron`` section of the manifest."""
    warnings: tuple[str, ...] = ()
    if settings.compiler is None:
        write_commands(folder, specs, settings.flags)
    return {**settings.describe(), "warnings": list(warnings)}


def _check_places(recipe: Recipe, out_dir: Path, dump_ir: Path | None) -> None:
    """Refuse what would destroy the input, or fail only after minutes of work."""
    source = Path(recipe.checkpoint)
    if source.exists() and source.resolve().is_relative_to(out_dir.resolve()):
        message = f"output folder {out_dir} holds the checkpoint {source} that it is made of"
        raise UsageError(message, hint="choose another output folder")
    if dump_ir is not None:
        try:
            dump_ir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot make the folder {dump_ir}: {error.strerror}"
            raise UsageError(message, hint="choose another --dump-ir") from error


def is_split_folder(source: str) -> bool:
    """Whether ``source`` names a folder made by `split`."""
    return not source.startswith("package:") and (Path(source) / SPLIT_FILE).is_file()


def _put_weights(
    recipe: Recipe, weights_dir: Path, progress: Progress
) -> tuple[Checkpoint | None, SplitManifest]:
    weights_dir.mkdir()
    if not is_split_folder(recipe.checkpoint):
        checkpoint = open_checkpoint(recipe.checkpoint, revision=recipe.revision)
        manifest = split_checkpoint(
            checkpoint, weights_dir, tp=recipe.tp, dtype=recipe.dtype, progress=progress
        )
        return checkpoint, manifest
    source = Path(recipe.checkpoint)
    manifest = read_split_manifest(source)
    if manifest.tp != recipe.tp or recipe.dtype not in ("auto", manifest.dtype):
        message = (
            f"{source} was split for tp={manifest.tp}, dtype {manifest.dtype};"
            f" asked for tp={recipe.tp}, dtype {recipe.dtype}"
        )
        hint = f"pass --tp {manifest.tp} and no --dtype, or split the checkpoint again"
        raise PlanError(message, hint=hint)
    check_files(source, manifest.files)
    link_files(source, weights_dir, [SPLIT_FILE, *(file.path for file in manifest.files)])
    return None, manifest


def _config_of(weights_dir: Path, weights: SplitManifest) -> ModelConfig:
    return read_model_config(read_config(weights_dir), source=weights.source)


def _job(
    spec: ProgramSpec,
    config: ModelConfig,
    weights: SplitManifest,
    dump_ir: Path | None,
    target: str,
) -> ProgramJob:
    return ProgramJob(
        name=spec.name,
        tp=weights.tp,
        spec=spec,
        config=config.raw,
        source=weights.source,
        shapes=weights.shapes,
        dtype=weights.dtype,
        target=target,
        dump_ir=None if dump_ir is None else str(dump_ir / spec.name),
    )
