"""neuronc split: one safetensors file per rank."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronc.cli.options import (
    DtypeOption,
    JsonFlag,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    RevisionOption,
    TpOption,
    require_out,
)
from neuronc.cli.output import Report
from neuronc.recipe import Recipe, merge_flags

if TYPE_CHECKING:
    from neuronc.parallel.cost import PaddingCost
    from neuronc.parallel.split_manifest import SplitManifest

EXAMPLES = (
    "neuronc split org/model -o weights --tp 2",
    "neuronc split model.gguf -o weights --tp 4 --dtype f32",
)


def split(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder, .gguf file, package:NAME/FILE or Hub id.")
    ],
    *,
    out: OutOption = None,
    tp: TpOption = None,
    dtype: DtypeOption = None,
    revision: RevisionOption = None,
    overwrite: OverwriteFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Split a checkpoint into one safetensors file per rank."""
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    recipe = merge_flags(
        Recipe(checkpoint=checkpoint), tp=tp, dtype=dtype, revision=revision, out=out
    )
    folder = require_out(recipe.out)
    manifest = pipeline.split(recipe, folder, overwrite=overwrite, progress=make_progress(quiet))
    return report_split(manifest, folder)


def report_split(manifest: "SplitManifest", folder: Path) -> Report:
    """The report of a split that lies in ``folder``."""
    data = {"path": str(folder), **describe_split(manifest)}

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        sizes = [f.size_bytes / 1e6 for f in manifest.files if f.path.startswith("rank-")]
        pairs = {
            "weights": str(folder),
            "source": manifest.source,
            "ranks": f"tp={manifest.tp}, {manifest.dtype}, {max(sizes):.1f} MB each",
            "tensors": str(len(manifest.tensors)),
            "padding": describe_padding(manifest.padding),
        }
        draw_pairs(console, pairs)

    return Report(command="split", data=data, text=draw)


def describe_padding(cost: "PaddingCost") -> str:
    """What padding and replication add, in one line."""
    params, flops = cost.extra_params_percent, cost.extra_flops_percent
    heads = f"{cost.extra_q_heads} query and {cost.extra_kv_heads} KV heads added"
    if not cost.extra_q_heads and not cost.extra_kv_heads:
        heads = "no heads added"
    return f"{heads}; over all ranks {params:+.1f} % parameters, {flops:+.1f} % FLOPs"


def describe_split(manifest: "SplitManifest") -> dict[str, object]:
    """What to tell about a split: sizes and what padding costs."""
    cost = manifest.padding
    return {
        "source": manifest.source,
        "tp": manifest.tp,
        "dtype": manifest.dtype,
        "tensors": len(manifest.tensors),
        "bytes_per_rank": [f.size_bytes for f in manifest.files if f.path.startswith("rank-")],
        "padding": {
            "extra_q_heads": cost.extra_q_heads,
            "extra_kv_heads": cost.extra_kv_heads,
            "extra_params_percent": round(cost.extra_params_percent, 2),
            "extra_flops_percent": round(cost.extra_flops_percent, 2),
        },
    }
