"""neuronc build: split, compile and verify, from a recipe or straight from a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronc.cli.build_cells import (
    CellFlags,
    JunitOption,
    KeepGoingFlag,
    LockedFlag,
    OnlyOption,
    ShardOption,
    UpdateLockFlag,
    build_cells,
    has_cells,
)
from neuronc.cli.build_flags import BuildFlags, takes_build_flags
from neuronc.cli.options import require_out
from neuronc.cli.output import Report
from neuronc.cli.split import describe_padding, describe_split
from neuronc.cli.verify import describe_cost, describe_verification, top_k_caveat
from neuronc.recipe import Recipe, merge_flags
from neuronc.recipe_file import load_recipe

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest
    from neuronc.lower.jobs import Programs
    from neuronc.pipeline import Built
    from neuronc.progress import Progress

EXAMPLES = (
    "neuronc build recipes/smollm2/135m_cpu_matrix.toml --shard 1/2 --junit build.xml",
    "neuronc build org/model -o artifact --tp 2 --max-length 512",
)


@takes_build_flags
def build(
    recipe: Annotated[str, typer.Argument(help="A .toml recipe, or a checkpoint.")],
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="CHECKPOINT", help="In place of the recipe's."),
    ] = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
    locked: LockedFlag = False,
    update_lock: UpdateLockFlag = False,
    keep_going: KeepGoingFlag = True,
    junit: JunitOption = None,
    flags: BuildFlags,
) -> Report:
    """Make a verified artifact of a recipe or checkpoint, or one for each [[build]] of a recipe.

    An artifact that is there already is checked and kept when it is what was asked for. Of several
    builds some failed: exit 12, and what is whole is kept.
    """
    cells = CellFlags(
        only=tuple(only or ()),
        shard=shard,
        locked=locked,
        update_lock=update_lock,
        keep_going=keep_going,
        junit=junit,
    )
    if has_cells(recipe, cells):
        return build_cells(Path(recipe), {"checkpoint": checkpoint}, cells, flags)
    from neuronc.cli.progress import make_progress

    start = load_recipe(Path(recipe)) if recipe.endswith(".toml") else Recipe(checkpoint=recipe)
    asked = merge_flags(start, checkpoint=checkpoint, **flags.overrides)
    built = build_one(asked, require_out(asked.out), flags, make_progress(flags.quiet))
    return report_built("build", built)


def build_one(
    recipe: Recipe, out: Path, flags: BuildFlags, progress: "Progress", *, name: str = ""
) -> "Built":
    """The artifact of ``recipe`` at ``out``; one of several builds has a ``name``.

    Raises:
        NeuroncError: what a build refuses.
    """
    from neuronc import pipeline

    built = pipeline.build_cached(
        recipe,
        out,
        verify=not flags.no_verify,
        overwrite=flags.overwrite,
        dump_ir=None if flags.dump_ir is None else flags.dump_ir / name,
        options=flags.compile_options,
        cache=flags.open_cache(),
        progress=progress,
    )
    if not flags.check_reproducible:
        return built
    return pipeline.check_reproducible(
        recipe, built, options=flags.compile_options, progress=progress
    )


def report_built(command: str, built: "Built") -> Report:
    """The report of a command that made an artifact."""
    manifest = built.manifest
    data: dict[str, object] = {
        "path": str(built.folder),
        "artifact_digest": manifest.digest,
        "target": manifest.target,
        "quantize": manifest.quantize,
        "on_device_sampling": manifest.on_device_sampling,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "prefill_buckets": list(manifest.prefill_buckets),
        "decode_buckets": list(manifest.decode_buckets),
        "embed_buckets": list(manifest.embed_buckets),
        "programs": [program.name for program in manifest.programs],
        "weights": None if built.split is None else describe_split(built.split),
        "neuron": manifest.neuron,
        "reused": built.reused,
        "reproduced": built.reproduced,
        **describe_programs(built.programs),
        "elapsed_s": round(built.elapsed_s, 2),
        "verification": manifest.verification or "unverified",
    }
    warnings = [] if manifest.verification else [_UNVERIFIED]
    if built.split is None:
        warnings = ["lowered from config alone: there are no weights to verify or run with"]
    warnings += top_k_caveat(_num_unverified_calls(manifest))
    warnings += [] if built.programs is None else built.programs.damage
    warnings += (manifest.neuron or {}).get("warnings", [])

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        took = "nothing to do" if built.reused else f"{built.elapsed_s:.1f} s"
        lines = artifact_lines(built.folder, manifest, took=took)
        if built.split is not None:
            lines["padding"] = describe_padding(built.split.padding)
        draw_pairs(console, lines)

    return Report(command=command, data=data, text=draw, warnings=tuple(warnings))


def describe_programs(programs: "Programs | None") -> dict[str, object]:
    """Which programs were made now and which the store had, in JSON terms."""
    if programs is None:
        return {"made": [], "from_cache": [], "worker_peak_rss_bytes": 0}
    return {
        "made": list(programs.made),
        "from_cache": list(programs.reused),
        "worker_peak_rss_bytes": programs.peak_rss_bytes,
    }


def _num_unverified_calls(manifest: "Manifest") -> int:
    is_device = (manifest.verification or {}).get("target") == manifest.target
    return 0 if is_device else manifest.num_top_k_calls


def artifact_lines(folder: Path, manifest: "Manifest", *, took: str) -> dict[str, str]:
    """What every command that made an artifact says of it, a name and a value per line."""
    neuron = {} if manifest.neuron is None else {"neuron": describe_neuron(manifest)}
    if manifest.num_top_k_calls:
        verified = "not verified" if _num_unverified_calls(manifest) else "verified"
        neuron["top-k"] = f"{manifest.num_top_k_calls} AwsNeuronTopK calls, {verified} on a device"
    return {
        "bundle" if manifest.is_bundle else "artifact": str(folder),
        "target": f"{manifest.target}, tp={manifest.tp}, {manifest.dtype}",
        **({} if manifest.quantize is None else {"weights of linear layers": manifest.quantize}),
        **neuron,
        **({"sampling": "greedy on the device"} if manifest.on_device_sampling else {}),
        "programs": ", ".join(program.name for program in manifest.programs),
        ("texts" if manifest.embeds else "slots"): (
            f"{manifest.batch_size} of {manifest.max_length} tokens"
        ),
        "digest": manifest.digest[:16],
        "took": took,
        "verification": describe_verification(manifest.verification),
        **describe_cost(manifest.verification),
    }


def describe_neuron(manifest: "Manifest") -> str:
    """Core size, compiler, and what has been proven on hardware, in one line."""
    neuron = manifest.neuron or {}
    compiler = neuron.get("compiler")
    made = "to be compiled" if compiler is None else f"neuronx-cc {compiler['version']}"
    if compiler is not None and compiler["stand_in"]:
        made += " (a test double: no real NEFF)"
    return f"logical cores of size {manifest.lnc}; {made}; {neuron.get('hardware')}"


_UNVERIFIED = "the artifact is unverified: run neuronc verify before trusting it"
