"""The stages in order: checkpoint, plan, split, trace, lower, compile, artifact, verify."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neuronc.artifact.atomic import atomic_folder, check_output
from neuronc.artifact.checked import check_artifact_files
from neuronc.artifact.contents import make_manifest
from neuronc.artifact.manifest import (
    PROGRAMS_DIR,
    WEIGHTS_DIR,
    Manifest,
    write_manifest,
)
from neuronc.artifact.neffs import add_neffs, check_lowered
from neuronc.artifact.reproducible import require_same
from neuronc.artifact.reuse import describe_request, find_reusable
from neuronc.artifact.weights import open_source, put_weights
from neuronc.built import Built, split_in
from neuronc.cache.cache import Cache
from neuronc.errors import VerificationError
from neuronc.lower.jobs import run_jobs
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.preparation import (
    DEFAULT_OPTIONS,
    check_places,
    elsewhere_for,
    job_of,
    programs_of,
    require_fit_of,
    settings_for,
)
from neuronc.progress import SILENT, Progress
from neuronc.provenance.write import put_provenance
from neuronc.recipe import Place, Recipe
from neuronc.refitting import refit
from neuronc.sizes import complete
from neuronc.splitting import split, unsplit
from neuronc.targets.neuron.settings import CompileOptions
from neuronc.verification import record_verification, verify_new
from neuronc.verify.clone import needs_clone, require_clone_matches

if TYPE_CHECKING:
    from neuronc.verify.bisect import LayerError

__all__ = [
    "Built",
    "bisect",
    "build",
    "build_cached",
    "check_reproducible",
    "refit",
    "split",
    "unsplit",
    "verify",
]


def build(
    recipe: Recipe,
    out_dir: Path,
    *,
    verify: bool = True,
    overwrite: bool = False,
    dump_ir: Path | None = None,
    options: CompileOptions = DEFAULT_OPTIONS,
    cache: Cache | None = None,
    progress: Progress = SILENT,
) -> Built:
    """Make a verified artifact of ``recipe`` in the new folder ``out_dir``.

    ``recipe.checkpoint`` may be a split folder, which then has to have the recipe's tp degree and
    dtype. Nothing appears at ``out_dir`` unless everything succeeded, verification included.

    Programs come before weights: they are what may fail, and are kept in ``cache``. Reports of
    verification are kept there, too.

    For a Neuron target the lowered programs are verified on XLA:CPU, before neuronx-cc is started.

    Raises:
        NeuroncError: what any stage refuses; see `neuronc.errors`.
    """
    begin = time.perf_counter()
    settings = settings_for(recipe, options)
    check_places(recipe, out_dir, dump_ir)
    check_output(out_dir, overwrite=overwrite)
    source = open_source(recipe, lower_only=options.lower_only, config_only=options.config_only)
    request = describe_request(recipe, config_only=options.config_only)
    recipe = complete(recipe, source.config)
    if settings is not None:
        require_fit_of(source, recipe, settings)
    if needs_clone(source.config):
        require_clone_matches(
            source.config,
            tp=source.tp,
            name=source.name,
            is_verified_later=verify and source.has_weights,
            progress=progress,
        )
    with atomic_folder(out_dir, overwrite=overwrite) as folder:
        specs = programs_of(recipe)
        jobs = [job_of(spec, source, recipe, dump_ir) for spec in specs]
        programs = run_jobs(
            jobs,
            folder / PROGRAMS_DIR,
            cache=None if dump_ir else cache,  # what was not lowered now has nothing to dump
            frozen=options.frozen,
            num_parallel=options.num_parallel,
            elsewhere=elsewhere_for(options, cache, progress),
            progress=progress,
        )
        weights = put_weights(source, folder / WEIGHTS_DIR, progress)
        neuron = None if settings is None else check_lowered(folder, specs, settings, progress)
        manifest = make_manifest(
            folder, recipe, source, weights, specs, request=request, neuron=neuron
        )
        write_manifest(manifest, folder)
        if verify and source.has_weights:
            manifest = verify_new(folder, manifest, source.checkpoint, cache, progress)
        if settings is not None and settings.compiler is not None:
            manifest = add_neffs(
                folder, manifest, settings.compiler, options, cache=cache, progress=progress
            )
        put_provenance(folder, recipe, source, progress=progress)
        return Built(
            folder=out_dir,
            manifest=manifest,
            split=weights,
            programs=programs,
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
    cache: Cache | None = None,
    progress: Progress = SILENT,
) -> Built:
    """`build`, unless ``out_dir`` holds just that artifact already: then it is checked and kept.

    Raises:
        UsageError: ``out_dir`` holds something else; the message says what differs.
    """
    begin = time.perf_counter()
    settings = settings_for(recipe, options)  # refuses wrong ones also if nothing is to be done
    manifest = None
    if not overwrite:
        manifest = find_reusable(out_dir, recipe, options, settings, need_verified=verify)
    if manifest is None:
        return build(
            recipe,
            out_dir,
            verify=verify,
            overwrite=overwrite,
            dump_ir=dump_ir,
            options=options,
            cache=cache,
            progress=progress,
        )
    with progress.stage("checking the artifact that is there"):
        check_artifact_files(out_dir, manifest, cache)
    return Built(
        folder=out_dir,
        manifest=manifest,
        split=split_in(out_dir),
        programs=None,
        elapsed_s=time.perf_counter() - begin,
        reused=True,
    )


def check_reproducible(
    recipe: Recipe,
    built: Built,
    *,
    options: CompileOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> Built:
    """Build ``recipe`` once more, in another folder, without store or verification, and compare.

    Returns:
        ``built``, marked as reproduced.

    Raises:
        VerificationError: the result differs from ``built``; says in which files.
        NeuroncError: see `build`.
    """
    options = replace(options, frozen=False, ray_address=None)
    with tempfile.TemporaryDirectory(prefix="neuronc-again-") as scratch:
        again = build(
            recipe, Path(scratch) / "again", verify=False, options=options, progress=progress
        )
    require_same(built.manifest, again.manifest)
    return replace(built, reproduced=True)


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
    checkpoint = open_any_checkpoint(checkpoint_source) if checkpoint_source else None
    return record_verification(folder, checkpoint, progress, on=on)


def bisect(
    folder: Path, checkpoint_source: str | None, *, progress: Progress = SILENT
) -> "list[LayerError]":
    """Every layer of an artifact against transformers'; see `neuronc.verify.bisect`."""
    from neuronc.verify.bisect import bisect_artifact

    checkpoint = open_any_checkpoint(checkpoint_source) if checkpoint_source else None
    return bisect_artifact(folder, checkpoint=checkpoint, progress=progress)
