"""neuronc refit: an artifact's programs with the weights of a fine-tune."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from neuronc.cli.built_report import report_built
from neuronc.cli.options import (
    AdapterOption,
    JsonFlag,
    NoVerifyFlag,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    RevisionOption,
    require_out,
)
from neuronc.cli.output import Report

EXAMPLES = (
    "neuronc refit artifact --weights org/fine-tune -o new",
    "neuronc refit artifact --weights org/model --adapter lora -o new --no-verify",
)


def refit(
    artifact: Annotated[Path, typer.Argument(help="Artifact or bundle whose programs to keep.")],
    *,
    weights: Annotated[
        str,
        typer.Option(
            "--weights", metavar="CHECKPOINT", help="Checkpoint or split folder of the same model."
        ),
    ],
    out: OutOption = None,
    revision: RevisionOption = None,
    adapter: AdapterOption = None,
    no_verify: NoVerifyFlag = False,
    overwrite: OverwriteFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Put other weights of the same architecture into an artifact, without compiling.

    The programs stay as they are, to the byte; config and tokenizer come from the checkpoint.
    """
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    built = pipeline.refit(
        artifact,
        weights,
        require_out(out),
        revision=revision,
        adapter=adapter,
        verify=not no_verify,
        overwrite=overwrite,
        progress=make_progress(quiet),
    )
    report = report_built("refit", built)
    lost = _lost_tokenizer(artifact, built.folder)
    return replace(report, warnings=(*report.warnings, *lost))


def _lost_tokenizer(artifact: Path, folder: Path) -> tuple[str, ...]:
    from neuronc.artifact.manifest import WEIGHTS_DIR

    had, has = ((f / WEIGHTS_DIR / "tokenizer.json").is_file() for f in (artifact, folder))
    return ("the checkpoint has no tokenizer, so the artifact has none",) if had > has else ()
