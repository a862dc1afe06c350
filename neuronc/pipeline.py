"""The stages in order: checkpoint, plan, split, trace, lower, compile, artifact, verify."""

import os
import shutil

from dataclasses import dataclass, replace
from pathlib import Path

from neuronc.artifact.atomic import atomic_folder, check_output
from neuronc.artifact.manifest import (
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    ProgramEntry,
    read_manifest,
    write_manifest,
)
from neuronc.artifact.contents import digest_files, make_manifest
from neuronc.checkpoint.checkpoint import Checkpoint, open_checkpoint
from neuronc.checkpoint.folder import read_config
from neuronc.errors import PlanError, ToolchainError
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
from neuronc.recipe import Recipe
from neuronc.trace.program_spec import ProgramSpec, list_programs

DEFAULT_MAX_LENGTH = 2048
"""Cache positions per slot where neither the user nor the model says less."""
DEFAULT_PREFILL_BUCKETS = (32, 128, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An artifact on disk.

    Attributes:
        folder: Where it is.
        manifest: Its manifest, with the verification result if there is one.
        split: Manifest of its weights.
        worker_peak_rss_bytes: Largest resident memory of a compiling worker.
    """

    folder: Path
    manifest: Manifest
    split: SplitManifest
    worker_peak_rss_bytes: int


def split(recipe: Recipe, out_dir: Path, *, overwrite: bool = False, progress: Progress = SILENT) -> SplitManifest:
    """Split ``recipe``'s checkpoint over its ranks into the new folder ``out_dir``."""
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
    progress: Progress = SILENT,
) -> Built:
    """Make a verified artifact of ``recipe`` in the new folder ``out_dir``.

    ``recipe.checkpoint`` may be a split folder, which then has to have the recipe's tp degree and
    dtype. Nothing appears at ``out_dir`` unless everything succeeded, verification included.

    Raises:
        NeuroncError: what any stage refuses; see `neuronc.errors`.
    """
    require_target(recipe.target)
    check_output(out_dir, overwrite=overwrite)
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        checkpoint, weights = _put_weights(recipe, folder / WEIGHTS_DIR, progress)
        config = _config_of(folder / WEIGHTS_DIR, weights)
        recipe = complete(recipe, config)
        specs = list_programs(
            batch_size=recipe.batch_size,
            max_length=recipe.max_length or DEFAULT_MAX_LENGTH,
            prefill_buckets=recipe.prefill_buckets,
            decode_buckets=recipe.decode_buckets,
        )
        jobs = [_job(spec, config, weights, dump_ir) for spec in specs]
        peak = run_jobs(jobs, folder / PROGRAMS_DIR, progress=progress)
        manifest = make_manifest(folder, recipe, weights, specs)
        write_manifest(manifest, folder)
        if verify:
            manifest = record_verification(folder, checkpoint=checkpoint, progress=progress)
        return Built(folder=out_dir, manifest=manifest, split=weights, worker_peak_rss_bytes=peak)


def record_verification(
    folder: Path, *, checkpoint: Checkpoint | None = None, progress: Progress = SILENT
) -> Manifest:
    """Verify the artifact in ``folder`` and store the result in its manifest.

    Raises:
        VerificationError: it differs from the original model; the manifest then says so too.
    """
    from neuronc.verify.verify import require_passed, verify_artifact

    found = verify_artifact(folder, checkpoint=checkpoint, progress=progress)
    manifest = replace(read_manifest(folder), verification=found.to_dict())
    if os.access(folder, os.W_OK):
        write_manifest(manifest, folder)
    require_passed(found, "the artifact")
    return manifest


def relink(folder: Path, *, progress: Progress = SILENT) -> Manifest:
    """Compile an artifact's executables again, for this machine, from the StableHLO in it.

    Needs neither torch nor the checkpoint. The artifact is unverified afterwards.

    Raises:
        InputError: a file of the artifact changed since it was written.
    """
    from neuronc.lower.program_files import EXECUTABLE, SIGNATURE
    from neuronc.targets.host import describe_host
    from neuronc.trace.program_spec import signature_to_dict

    manifest = read_manifest(folder)
    kept = tuple(f for f in manifest.files if Path(f.path).name != EXECUTABLE)
    check_files(folder, kept)
    with atomic_folder(folder, overwrite=True) as staging:
        _link_tree(folder, staging)
        jobs = []
        for entry in manifest.programs:
            (staging / PROGRAMS_DIR / entry.name / EXECUTABLE).unlink(missing_ok=True)
            signature = signature_to_dict(entry.signature)
            jobs.append(ProgramJob(name=entry.name, tp=manifest.tp, signature=signature))
        run_jobs(jobs, staging / PROGRAMS_DIR, progress=progress)
        for leftover in staging.rglob(SIGNATURE):
            leftover.unlink()
        fresh = replace(
            manifest, host=describe_host(), files=digest_files(staging), verification=None
        )
        write_manifest(fresh, staging)
    return fresh


def complete(recipe: Recipe, config: ModelConfig) -> Recipe:
    """``recipe`` with every size decided.

    Raises:
        PlanError: max length beyond the model's positions, or a bucket beyond max length.
    """
    positions = config.max_positions or DEFAULT_MAX_LENGTH
    max_length = recipe.max_length or min(positions, DEFAULT_MAX_LENGTH)
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
    return replace(
        recipe, max_length=max_length, prefill_buckets=prefill, decode_buckets=decode
    )


def require_target(target: str) -> None:
    """Refuse a target this version cannot compile for."""
    if target != "cpu":
        message = f"target {target!r} is not in this version; it compiles for cpu only"
        raise ToolchainError(message, hint="pass --target cpu")


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
        raise PlanError(message, hint="split the checkpoint again, or pass what it was split for")
    check_files(source, manifest.files)
    _link_tree(source, weights_dir)
    return None, manifest


def _link_tree(source: Path, destination: Path) -> None:
    """The same files at a second place: hard links where the disk allows, copies elsewhere."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copyfile(one, other)

    shutil.copytree(source, destination, copy_function=link, dirs_exist_ok=True)


def _config_of(weights_dir: Path, weights: SplitManifest) -> ModelConfig:
    return read_model_config(read_config(weights_dir), source=weights.source)


def _job(
    spec: ProgramSpec, config: ModelConfig, weights: SplitManifest, dump_ir: Path | None
) -> ProgramJob:
    return ProgramJob(
        name=spec.name,
        tp=weights.tp,
        spec=spec,
        config=config.raw,
        source=weights.source,
        shapes=weights.shapes,
        dtype=weights.dtype,
        dump_ir=None if dump_ir is None else str(dump_ir / spec.name),
    )
