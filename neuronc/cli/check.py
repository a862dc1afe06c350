"""neuronc check: can an artifact be loaded here, and trusted?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, OnOption, QuietFlag, RequireSignatureOption
from neuronc.cli.output import Report

EXAMPLES = (
    "neuronc check artifact",
    "neuronc check artifact --require-signature release.key.pub --json",
)


def check(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Say whether an artifact is whole, fits this machine, and where it comes from.

    Files are hashed and headers read; nothing is loaded. Exit 3 for a damaged artifact or a
    signature that is missing, 5 for one that cannot run here.
    """
    from neuronc.artifact.check import check_artifact, failure
    from neuronc.cli.progress import make_progress

    answers = check_artifact(
        artifact,
        on=on or "target",
        public_key=require_signature,
        progress=make_progress(quiet),
    )
    error = failure(artifact, answers)

    def draw(console: Any) -> None:
        from neuronc.cli.tables import draw_table

        rows = [(answer.question, answer.verdict, answer.detail) for answer in answers]
        draw_table(console, ("question", "answer", "why"), rows)

    return Report(
        command="check",
        data={
            "path": str(artifact),
            "ok": error is None,
            "answers": [asdict(answer) for answer in answers],
        },
        text=draw,
        warnings=tuple(f"{a.question}: {a.detail}" for a in answers if a.warns),
        error=error,
    )
