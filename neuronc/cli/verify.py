"""neuronc verify: an artifact against the original model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import (
    JsonFlag,
    OnOption,
    QuietFlag,
    RequireSignatureOption,
)
from neuronc.cli.output import Report

if TYPE_CHECKING:
    from neuronc.verify.bisect import LayerError

EXAMPLES = (
    "neuronc verify artifact --bisect",
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
    bisect: Annotated[
        bool,
        typer.Option("--bisect", help="Compare every layer's output as well: where does it begin?"),
    ] = False,
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Compare an artifact's logits, or embeddings, with transformers'.

    A Neuron artifact's programs run on the CPU unless --on target is given. The result is recorded
    in the artifact's manifest.
    """
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.signing import require_signatures

    progress = make_progress(quiet)
    require_signatures((artifact,), require_signature, progress=progress)
    manifest, error = pipeline.verify(artifact, checkpoint, on=on or "cpu", progress=progress)
    found = manifest.verification or {}
    layers = pipeline.bisect(artifact, checkpoint, progress=progress) if bisect else []

    def draw(console: Any) -> None:
        draw_verification(console, found)
        if bisect:
            _draw_layers(console, layers)

    return Report(
        command="verify",
        data={
            "path": str(artifact),
            "artifact_digest": manifest.digest,
            **found,
            **({"layers": [asdict(layer) for layer in layers]} if bisect else {}),
        },
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
    rows = found["num_rows"]
    agreement = (
        f"cosine similarity at least {found['min_cosine']:.6f} over {rows} embeddings"
        if "min_cosine" in found
        else f"top-1 {found['top1_agreement']:.1%} over {rows} logits rows"
    )
    error = f"max error {found['max_ulp']:.3g} ulp of {found['tolerance_ulp']:.3g} allowed"
    sampled = "".join(f", {told}" for told in _sampled(found).values())
    return f"{verdict} on {place}: {error}, {agreement}{sampled}"


def describe_cost(found: Mapping[str, Any] | None) -> dict[str, str]:
    """What quantised weights cost in accuracy, for a summary; nothing where none are quantised."""
    quantization = (found or {}).get("quantization")
    if quantization is None:
        return {}
    cost, title = quantization["cost"], f"cost of {quantization['scheme']}"
    if cost is None:
        return {title: "not measured: pass --checkpoint to neuronc verify"}
    agreement = (
        f"cosine similarity at least {cost['min_cosine']:.6f} over {cost['num_rows']} embeddings"
        if cost["top1_agreement"] is None
        else f"KL divergence {cost['mean_kl']:.3g} nats (max {cost['max_kl']:.3g}), top-1"
        f" agreement {cost['top1_agreement']:.1%} over {cost['num_rows']} logits rows"
    )
    error = (
        f"relative error {cost['mean_relative_error']:.2g} (max {cost['max_relative_error']:.2g})"
    )
    return {title: f"{error}, {agreement}"}


def draw_verification(console: Any, found: Mapping[str, Any]) -> None:
    """The numbers, overall and of each program."""
    from neuronc.bench.document import headline
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
        **_of_dtype(found),
        **_agreement(found),
        **describe_cost(found),
        "first divergence": str(found["first_divergence"] or "none"),
    }
    draw_pairs(console, pairs)
    rows = [
        (name, str(entry["rows"]), f"{entry['max_ulp']:.4g}")
        for name, entry in found["by_program"].items()
    ]
    draw_rows(console, ("program", "rows", "max ulp"), rows)


def _draw_layers(console: Any, layers: "Sequence[LayerError]") -> None:
    from neuronc.cli.tables import draw_rows

    rows = [
        (
            f"{layer.program} {layer.layer}",
            f"{layer.ulp:.4g}",
            "" if layer.dtype_ulp is None else f"{layer.dtype_ulp:.4g}",
            "differs" if layer.differs else "",
        )
        for layer in layers
    ]
    draw_rows(console, ("layer", "max ulp", "transformers in that dtype", ""), rows)
    first = next((layer for layer in layers if layer.differs), None)
    where = (
        "no layer differs" if first is None else f"{first.program} differs from {first.layer} on"
    )
    console.print(where if layers else "the model's layers cannot be watched one by one")


def _of_dtype(found: Mapping[str, Any]) -> dict[str, str]:
    own = found.get("dtype_ulp")
    return {} if own is None else {"transformers in that dtype": f"{own:.4g} ulp from f32 itself"}


def _agreement(found: Mapping[str, Any]) -> dict[str, str]:
    if "min_cosine" in found:
        return {"smallest cosine similarity": f"{found['min_cosine']:.8f}"}
    return {
        "top-1 agreement": f"{found['top1_agreement']:.2%} ({found['num_ties']} near ties)",
        "max KL divergence": f"{found['max_kl']:.3g} nats",
        **_sampled(found),
    }


def _sampled(found: Mapping[str, Any]) -> dict[str, str]:
    """Tokens sampled on the device against the logits of the same run."""
    total = found.get("num_tokens")
    if total is None:
        return {}
    right = total - found["num_wrong_tokens"]
    return {
        "on-device sampling": f"{right} of {total} tokens are the first largest of their logits"
    }


def _warnings(found: Mapping[str, Any]) -> tuple[str, ...]:
    bad = found.get("non_finite_weights") or []
    told = (f"{len(bad)} weights hold NaN or infinity, first {bad[0]}",) if bad else ()
    return (*told, *top_k_caveat(found.get("unverified_top_k_calls", 0)))


def top_k_caveat(num_calls: int) -> tuple[str, ...]:
    """A warning where neuronx-cc has custom calls that nothing but a Neuron device can run."""
    if not num_calls:
        return ()
    told = (
        f"{num_calls} AwsNeuronTopK calls stand in the HLO for neuronx-cc: their numbers, and which"
        " of equal values they give first, are not verified here; rounds of maxima ran for them"
    )
    return (told,)
