"""neuronc compile: a checkpoint, split folder or bundle to an artifact; or relink an artifact."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from neuronc.cli.build_flags import BuildFlags, folder_of, takes_build_flags
from neuronc.cli.built_report import artifact_lines, report_built
from neuronc.cli.options import require_out
from neuronc.cli.output import Report
from neuronc.errors import UsageError
from neuronc.recipe import Recipe, merge_flags

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest

EXAMPLES = (
    "neuronc compile weights -o artifact --tp 2 --batch-size 2 --max-length 256",
    "neuronc compile org/model -o bundle --tp 2 --target inf2 --lower-only",
)
_FOR_TRACING = (
    "--out", "--tp", "--batch-size", "--max-length", "--dtype", "--target", "--revision",
    "--cc-arg", "--overwrite", "--allow-env-flags",
)  # fmt: skip
_FOR_BUNDLES = (
    "--out", "--overwrite", "--jobs", "--compile-timeout", "--cache", "--frozen", "--executor", "--address",
)  # fmt: skip


@takes_build_flags
def compile_command(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint, split folder or bundle; with --relink an artifact.")
    ],
    *,
    relink: Annotated[
        bool,
        typer.Option(
            "--relink", help="Compile an artifact's CPU programs again, for this machine."
        ),
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="DIR", help="Split folder for a bundle without weights."),
    ] = None,
    tracer: Annotated[
        Literal["neuronc", "torch-neuronx"],
        typer.Option("--tracer", help="torch-neuronx makes a TorchScript model for one core."),
    ] = "neuronc",
    flags: BuildFlags,
) -> Report:
    """Compile a checkpoint or split folder and verify it, or compile a bundle."""
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    _refuse_ignored(weights, tracer, relink=relink)
    if tracer == "torch-neuronx":
        return _trace(checkpoint, flags)
    if relink:
        return _relink(Path(checkpoint), flags)
    if (bundle := folder_of(checkpoint)) is not None:
        return _compile_bundle(bundle, weights, flags)
    if weights is not None:
        message = "--weights is for bundles; a checkpoint has its own"
        raise UsageError(message, hint="leave it out")
    asked = merge_flags(Recipe(checkpoint=checkpoint), **flags.overrides)
    progress = make_progress(flags.quiet)
    built = pipeline.build(
        asked,
        require_out(asked.out),
        verify=not flags.no_verify,
        overwrite=flags.overwrite,
        dump_ir=flags.dump_ir,
        options=flags.compile_options,
        cache=flags.open_cache(),
        progress=progress,
    )
    if flags.check_reproducible:
        built = pipeline.check_reproducible(
            asked, built, options=flags.compile_options, progress=progress
        )
    return report_built("compile", built)


def _refuse_ignored(weights: Path | None, tracer: str, *, relink: bool) -> None:
    if weights is not None and (relink or tracer != "neuronc"):
        other = "--relink" if relink else f"--tracer {tracer}"
        message = f"--weights is for bundles without weights; {other} takes none"
        raise UsageError(message, hint="leave out --weights")
    if relink and tracer != "neuronc":
        message = f"--relink compiles an artifact's CPU programs; --tracer {tracer} makes none"
        raise UsageError(message, hint="leave out one of the two")


def _relink(folder: Path, flags: BuildFlags) -> Report:
    from neuronc.artifact.relink import relink
    from neuronc.cli.progress import make_progress

    if given := flags.given():
        message = f"--relink keeps what the artifact is; it takes no {given[0]}"
        raise UsageError(message, hint="compile the checkpoint again to change it")
    begin = time.perf_counter()
    manifest = relink(folder, progress=make_progress(flags.quiet))
    warning = "the new executables are unverified: run neuronc verify"
    return _report(folder, manifest, time.perf_counter() - begin, (warning,))


def _trace(checkpoint: str, flags: BuildFlags) -> Report:
    from neuronc.cli.progress import make_progress
    from neuronc.targets.neuron.torchscript import MODEL_FILE, trace_torchscript

    asked = merge_flags(Recipe(checkpoint=checkpoint), **flags.overrides)
    others = [option for option in flags.given() if option not in _FOR_TRACING]
    if others or asked.tp > 1 or asked.target == "cpu":
        wrong = others[0] if others else f"--tp {asked.tp}" if asked.tp > 1 else "--target cpu"
        message = f"--tracer torch-neuronx makes one model for one core of a Neuron target; {wrong}"
        raise UsageError(message, hint="pass a Neuron --target, sizes and --cc-arg only")
    out = require_out(asked.out)
    traced = trace_torchscript(
        asked,
        out,
        allow_env_flags=flags.allow_env_flags,
        overwrite=flags.overwrite,
        progress=make_progress(flags.quiet),
    )
    data: dict[str, object] = {"path": str(out), "model": MODEL_FILE, **asdict(traced)}

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        draw_pairs(console, {key: str(value) for key, value in data.items()})

    warning = "a TorchScript model for Neuron runs, and can be verified, on a Neuron device only"
    return Report(command="compile", data=data, text=draw, warnings=(warning,))


def _compile_bundle(bundle: Path, weights: Path | None, flags: BuildFlags) -> Report:
    from neuronc.artifact.manifest import WEIGHTS_DIR
    from neuronc.artifact.neffs import compile_bundle
    from neuronc.cli.progress import make_progress
    from neuronc.parallel.split_manifest import SPLIT_FILE

    others = [option for option in flags.given() if option not in _FOR_BUNDLES]
    if others:
        message = f"{bundle} was lowered already: {others[0]} comes too late"
        raise UsageError(message, hint="lower the checkpoint again to change it")
    begin = time.perf_counter()
    out = require_out(flags.out)
    manifest = compile_bundle(
        bundle,
        out,
        flags.compile_options,
        weights=weights,
        overwrite=flags.overwrite,
        cache=flags.open_cache(),
        progress=make_progress(flags.quiet),
    )
    warnings = [] if manifest.verification else ["the artifact is unverified: run neuronc verify"]
    if not (out / WEIGHTS_DIR / SPLIT_FILE).is_file():
        warnings.append("it has no weights, as the bundle: pass --weights DIR to put them in")
    return _report(out, manifest, time.perf_counter() - begin, tuple(warnings))


def _report(
    folder: Path, manifest: "Manifest", elapsed_s: float, warnings: tuple[str, ...]
) -> Report:
    data: dict[str, object] = {
        "path": str(folder),
        "artifact_digest": manifest.digest,
        "target": manifest.target,
        "neuron": manifest.neuron,
        "programs": [program.name for program in manifest.programs],
        "elapsed_s": round(elapsed_s, 2),
        "verification": manifest.verification or "unverified",
    }

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        draw_pairs(console, artifact_lines(folder, manifest, took=f"{elapsed_s:.1f} s"))

    return Report(command="compile", data=data, text=draw, warnings=warnings)
