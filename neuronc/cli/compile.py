"""neuronc compile: a checkpoint or split folder to an artifact; or relink an artifact."""

import time
from pathlib import Path
from typing import Annotated

import typer

from neuronc.cli.build import artifact_lines, report_built
from neuronc.cli.options import (
    BatchSizeOption,
    DecodeBucketsOption,
    DtypeOption,
    DumpIrOption,
    JsonFlag,
    MaxLengthOption,
    NoVerifyFlag,
    OutOption,
    OverwriteFlag,
    PrefillBucketsOption,
    QuietFlag,
    RevisionOption,
    TargetOption,
    TpOption,
    require_out,
)
from neuronc.cli.output import Report
from neuronc.errors import UsageError
from neuronc.recipe import Recipe, merge_flags

EXAMPLES = (
    "neuronc compile weights -o artifact --tp 2 --batch-size 2 --max-length 256",
    "neuronc compile --relink artifact",
)


def compile_command(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint or split folder; with --relink an artifact.")
    ],
    *,
    out: OutOption = None,
    tp: TpOption = None,
    batch_size: BatchSizeOption = None,
    max_length: MaxLengthOption = None,
    prefill_buckets: PrefillBucketsOption = None,
    decode_buckets: DecodeBucketsOption = None,
    dtype: DtypeOption = None,
    target: TargetOption = None,
    revision: RevisionOption = None,
    no_verify: NoVerifyFlag = False,
    overwrite: OverwriteFlag = False,
    dump_ir: DumpIrOption = None,
    relink: Annotated[
        bool,
        typer.Option("--relink", help="Compile an artifact's programs again for this machine."),
    ] = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Compile a checkpoint or split folder, and verify it."""
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    flags = {
        "out": out,
        "tp": tp,
        "batch_size": batch_size,
        "max_length": max_length,
        "prefill_buckets": prefill_buckets,
        "decode_buckets": decode_buckets,
        "dtype": dtype,
        "target": target,
        "revision": revision,
    }
    if relink:
        given = [name for name, value in flags.items() if value is not None]
        return _relink(Path(checkpoint), given, quiet=quiet)
    asked = merge_flags(Recipe(checkpoint=checkpoint), **flags)
    built = pipeline.build(
        asked,
        require_out(asked.out),
        verify=not no_verify,
        overwrite=overwrite,
        dump_ir=dump_ir,
        progress=make_progress(quiet),
    )
    return report_built("compile", built)


def _relink(folder: Path, given: list[str], *, quiet: bool) -> Report:
    from neuronc.artifact.relink import relink
    from neuronc.cli.progress import make_progress

    if given:
        message = f"--relink keeps what the artifact is; it takes no --{given[0].replace('_', '-')}"
        raise UsageError(message, hint="compile the checkpoint again to change it")
    begin = time.perf_counter()
    manifest = relink(folder, progress=make_progress(quiet))
    data: dict[str, object] = {
        "path": str(folder),
        "artifact_digest": manifest.digest,
        "target": manifest.target,
        "programs": [program.name for program in manifest.programs],
        "elapsed_s": round(time.perf_counter() - begin, 2),
        "verification": "unverified",
    }

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        took = f"{data['elapsed_s']} s"
        draw_pairs(console, artifact_lines(folder, manifest, took=took))

    warning = "the new executables are unverified: run neuronc verify"
    return Report(command="compile", data=data, text=draw, warnings=(warning,))
