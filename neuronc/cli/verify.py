"""neuronc verify: an artifact against the original model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, OnOption, QuietFlag
from neuronc.cli.output import Report

EXAMPLES = (
    "neuronc verify artifact",
    "neuronc verify artifact --checkpoint org/model --json",
)


def verify(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="CHECKPOINT",
            help="Compare with this checkpoint instead of the rank shards put together.",
        ),
    ] = None,
    on: OnOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Compare an artifact's logits with transformers'.

    A Neuron artifact's programs run on the CPU unless --on target is given. The result is recorded
    in the artifact's manifest.
    """
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    manifest, error = pipeline.verify(
        artifact, checkpoint, on=on or "cpu", progress=make_progress(quiet)
    )
    found = manifest.verification or {}

    def draw(console: Any) -> None:
        draw_verification(console, found)

    return Report(
        command="verify",
        data={"path": str(artifact), "artifact_digest": manifest.digest, **found},
        text=draw,
        warnings=_warnings(found),
        error=error,
    )


def describe_verification(found: Mapping[str, Any] | None) -> str:
    """One line for a summary."""
    if found is None:
        return "unverified"
    verdict = "passed" if found["passed"] else "FAILED"
    place = found.get("target", "cpu")
    return (
        f"{verdict} on {place}: max error {found['max_ulp']:.3g} ulp of {found['tolerance_ulp']:.3g} allowed,"
        f" top-1 {found['top1_agreement']:.1%} over {found['num_rows']} logits rows"
    )


def draw_verification(console: Any, found: Mapping[str, Any]) -> None:
    """The numbers, overall and of each program."""
    from neuronc.bench.report import headline
    from neuronc.cli.tables import draw_pairs, draw_rows

    pairs = {
        "verification": "passed" if found["passed"] else "FAILED",
        "ran on": headline(found["target"]),
        "reference": found["reference"],
        "rows compared": str(found["num_rows"]),
        "max error": (
            f"{found['max_ulp']:.4g} ulp ({found['max_relative_error']:.3g} relative,"
            f" {found['max_abs_error']:.3g} absolute), allowed {found['tolerance_ulp']:.4g} ulp"
        ),
        "top-1 agreement": f"{found['top1_agreement']:.2%} ({found['num_ties']} near ties)",
        "max KL divergence": f"{found['max_kl']:.3g} nats",
        "first divergence": str(found["first_divergence"] or "none"),
    }
    draw_pairs(console, pairs)
    rows = [
        (name, str(entry["rows"]), f"{entry['max_ulp']:.4g}")
        for name, entry in found["by_program"].items()
    ]
    draw_rows(console, ("program", "rows", "max ulp"), rows)


def _warnings(found: Mapping[str, Any]) -> tuple[str, ...]:
    bad = found.get("non_finite_weights") or []
    if not bad:
        return ()
    return (f"{len(bad)} weights hold NaN or infinity, first {bad[0]}",)
