"""What a build decides, and refuses, before it begins."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from neuronc.artifact.atomic import require_apart
from neuronc.artifact.weights import Source
from neuronc.cache.cache import Cache
from neuronc.errors import UsageError
from neuronc.lower.jobs import Elsewhere, ProgramJob
from neuronc.progress import Progress
from neuronc.recipe import Recipe
from neuronc.sizes import DEFAULT_MAX_LENGTH
from neuronc.targets.neuron.preflight.fit import require_fit
from neuronc.targets.neuron.settings import CompileOptions, NeuronSettings, neuron_settings
from neuronc.trace.program_spec import ProgramSpec, list_programs

DEFAULT_OPTIONS = CompileOptions()


def settings_for(recipe: Recipe, options: CompileOptions) -> NeuronSettings | None:
    """Settings of a Neuron target, None for the CPU.

    Raises:
        UsageError: an option that only Neuron targets have.
        NeuroncError: what `neuron_settings` refuses.
    """
    if options.config_only and not options.lower_only:
        message = "--config-only leaves out the weights that an artifact needs"
        raise UsageError(message, hint="pass --lower-only as well, for a bundle")
    if options.lower_only and options.timeout_s != DEFAULT_OPTIONS.timeout_s:
        message = "--compile-timeout is for neuronx-cc, and --lower-only stops before it"
        raise UsageError(message, hint="pass it to neuronc compile BUNDLE")
    if recipe.target != "cpu":
        return neuron_settings(recipe, options)
    if replace(options, num_parallel=None, frozen=False, ray_address=None) != DEFAULT_OPTIONS:
        message = "--lower-only and the options of neuronx-cc are for Neuron targets"
        raise UsageError(message, hint="pass --target inf2, trn1, trn1n, trn2 or trn3")
    return None


def require_fit_of(source: Source, recipe: Recipe, settings: NeuronSettings) -> None:
    """Compare what a config tells of the weights and caches with a core's memory; see `require_fit`."""
    plan = source.plan()
    if plan is not None:
        require_fit(
            plan,
            source.config,
            dtype=source.dtype,
            batch_size=recipe.batch_size,
            max_length=recipe.max_length or DEFAULT_MAX_LENGTH,
            target=settings.target,
            lnc=settings.flags.lnc,
        )


def check_places(recipe: Recipe, out_dir: Path, dump_ir: Path | None) -> None:
    """Refuse what would destroy the input, or fail only after minutes of work."""
    require_apart(out_dir, "checkpoint", recipe.checkpoint)
    require_apart(out_dir, "adapter", recipe.adapter)
    if dump_ir is not None:
        try:
            dump_ir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot make the folder {dump_ir}: {error.strerror}"
            raise UsageError(message, hint="choose another --dump-ir") from error


def programs_of(recipe: Recipe) -> tuple[ProgramSpec, ...]:
    """The programs of a completed recipe."""
    return list_programs(
        batch_size=recipe.batch_size,
        max_length=recipe.max_length or DEFAULT_MAX_LENGTH,
        prefill_buckets=recipe.prefill_buckets,
        decode_buckets=recipe.decode_buckets,
        embed_buckets=recipe.buckets,
        on_device_sampling=recipe.on_device_sampling,
    )


def job_of(spec: ProgramSpec, source: Source, recipe: Recipe, dump_ir: Path | None) -> ProgramJob:
    """What a worker needs to make ``spec``."""
    return ProgramJob(
        name=spec.name,
        tp=source.tp,
        spec=spec,
        config=source.config.raw,
        source=source.name,
        shapes=source.shapes,
        dtype=source.dtype,
        quantize=source.quantize,
        target=recipe.target,
        top_k_call=recipe.top_k_call,
        make_executable=source.has_weights,  # without weights there is nothing to run on the CPU
        dump_ir=None if dump_ir is None else str(dump_ir / spec.name),
    )


def elsewhere_for(
    options: CompileOptions, cache: Cache | None, progress: Progress
) -> Elsewhere | None:
    """Who makes programs in place of this machine; None for nobody.

    Raises:
        UsageError: a cluster without a store.
    """
    if options.ray_address is None:
        return None
    from neuronc.cluster.programs import make_on_cluster
    from neuronc.cluster.ray_jobs import require_shared

    return partial(
        make_on_cluster,
        cache=require_shared(cache),
        address=options.ray_address,
        progress=progress,
    )
