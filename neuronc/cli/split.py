"""neuronc split: one weight file per rank, or the layout of another tool."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronc.cli.options import (
    DtypeOption,
    JsonFlag,
    OutOption,
    OverwriteFlag,
    QuantizeOption,
    QuietFlag,
    RevisionOption,
    TpOption,
    require_out,
)
from neuronc.cli.output import Report
from neuronc.parallel.layouts.names import Layout, weight_paths
from neuronc.recipe import Recipe, merge_flags

if TYPE_CHECKING:
    from neuronc.parallel.cost import PaddingCost
    from neuronc.parallel.split_manifest import SplitManifest

EXAMPLES = (
    "neuronc split org/model -o weights --tp 2",
    "neuronc split model.gguf -o weights --dtype bf16 --layout transformers-neuronx",
)


def split(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder, .gguf file, package:NAME/FILE or Hub id.")
    ],
    *,
    out: OutOption = None,
    tp: TpOption = None,
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    layout: Annotated[
        Layout,
        typer.Option(
            "--layout", help="Layout of the output; transformers-neuronx holds whole tensors."
        ),
    ] = "neuronc",
    revision: RevisionOption = None,
    overwrite: OverwriteFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Split a checkpoint into one file per rank, or write it in the layout of another tool."""
    from neuronc import pipeline
    from neuronc.cli.progress import make_progress

    recipe = merge_flags(
        Recipe(checkpoint=checkpoint),
        tp=tp,
        dtype=dtype,
        quantize=quantize,
        revision=revision,
        out=out,
    )
    folder = require_out(recipe.out)
    manifest = pipeline.split(
        recipe, folder, layout=layout, overwrite=overwrite, progress=make_progress(quiet)
    )
    return report_split(manifest, folder)


def report_split(manifest: "SplitManifest", folder: Path) -> Report:
    """The report of a split that lies in ``folder``."""
    data = {
        "path": str(folder),
        "layout": manifest.layout,
        "files": [file.path for file in manifest.files],
        **describe_split(manifest),
    }

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        pairs = {
            "weights": str(folder),
            "layout": manifest.layout,
            "source": manifest.source,
            "ranks": _describe_ranks(manifest),
            "files": ", ".join(_summed_up(file.path for file in manifest.files)),
            "tensors": str(len(manifest.tensors)),
            "padding": describe_padding(manifest.padding),
        }
        draw_pairs(console, pairs)

    return Report(command="split", data=data, text=draw)


def _describe_ranks(manifest: "SplitManifest") -> str:
    sizes = bytes_per_rank(manifest)
    if manifest.layout == "transformers-neuronx":
        return f"not split, {manifest.dtype}, {sizes[0] / 1e6:.1f} MB"
    stored = ", ".join(filter(None, (manifest.dtype, manifest.quantize)))
    return f"tp={manifest.tp}, {stored}, {max(sizes) / 1e6:.1f} MB each"


def _summed_up(paths: Iterable[str]) -> list[str]:
    """The paths; those of one folder as the folder and their number."""
    counts = Counter(re.sub("/.*", "/", path) for path in paths)
    return [f"{name} ({count})" if name.endswith("/") else name for name, count in counts.items()]


def bytes_per_rank(manifest: "SplitManifest") -> list[int]:
    """Size of every rank's weights; where they are not split, one size."""
    sizes = {file.path: file.size_bytes for file in manifest.files}
    ranks = [sizes[path] for path in weight_paths(manifest.tp, manifest.layout)]
    return ranks or [sum(size for path, size in sizes.items() if "/" in path)]


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
        "quantize": manifest.quantize,
        "tensors": len(manifest.tensors),
        "bytes_per_rank": bytes_per_rank(manifest),
        "padding": {
            "extra_q_heads": cost.extra_q_heads,
            "extra_kv_heads": cost.extra_kv_heads,
            "extra_params_percent": round(cost.extra_params_percent, 2),
            "extra_flops_percent": round(cost.extra_flops_percent, 2),
        },
    }
