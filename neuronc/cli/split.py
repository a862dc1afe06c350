"""neuronc split: one weight file per rank, or the layout of another tool."""

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronc.cli.options import (
    AdapterOption,
    ByteSize,
    DtypeOption,
    JsonFlag,
    MaxFileSizeOption,
    OutOption,
    OverwriteFlag,
    QuantizeOption,
    QuietFlag,
    RevisionOption,
    TpOption,
    parse_bytes,
    require_out,
)
from neuronc.cli.output import Report
from neuronc.dtypes import DTYPES
from neuronc.parallel.layouts.names import Layout
from neuronc.parallel.split_options import SplitOptions
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
        str, typer.Argument(help="Folder, .gguf file, package:NAME/FILE, URL or Hub id.")
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
    link: Annotated[
        bool,
        typer.Option("--link", help="Write no weights: refer to where they lie in the checkpoint."),
    ] = False,
    max_memory: Annotated[
        ByteSize | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            parser=partial(parse_bytes, "--max-memory"),
            help="Most memory the split may take, such as 1GiB.",
        ),
    ] = None,
    max_file_size: MaxFileSizeOption = None,
    revision: RevisionOption = None,
    adapter: AdapterOption = None,
    overwrite: OverwriteFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Split a checkpoint into one file per rank, or write it in the layout of another tool.

    A split that was stopped is gone on with by the same command.
    """
    from neuronc import splitting
    from neuronc.cli.progress import make_progress

    recipe = merge_flags(
        Recipe(checkpoint=checkpoint),
        tp=tp,
        dtype=dtype,
        quantize=quantize,
        revision=revision,
        adapter=adapter,
        out=out,
    )
    folder = require_out(recipe.out)
    options = SplitOptions(
        layout=layout,
        link=link,
        max_memory_bytes=max_memory,
        max_file_bytes=max_file_size,
    )
    begin_s = time.perf_counter()
    manifest = splitting.split(
        recipe, folder, options=options, overwrite=overwrite, progress=make_progress(quiet)
    )
    return report_split(manifest, folder, elapsed_s=time.perf_counter() - begin_s)


def report_split(manifest: "SplitManifest", folder: Path, *, elapsed_s: float) -> Report:
    """The report of a split that lies in ``folder``, after it took ``elapsed_s``."""
    from neuronc.checkpoint.process_memory import peak_rss_bytes

    read = sum(o.size_bytes for tensor in manifest.tensors.values() for o in tensor.origins)
    written = sum(file.size_bytes for file in manifest.files)
    peak = peak_rss_bytes()
    data = {
        "path": str(folder),
        "layout": manifest.layout,
        "files": [file.path for file in manifest.files],
        **describe_split(manifest),
        "linked": manifest.linked is not None,
        "left_out": list(manifest.left_out),
        "bytes_read": 0 if manifest.linked else read,
        "bytes_written": written,
        "elapsed_s": round(elapsed_s, 3),
        "peak_rss_bytes": peak,
    }

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        pairs = {
            "weights": str(folder),
            "layout": manifest.layout,
            "source": manifest.source,
            **({} if manifest.adapter is None else {"adapter": manifest.adapter.name}),
            "ranks": _describe_ranks(manifest),
            "files": ", ".join(_summed_up(file.path for file in manifest.files)),
            "tensors": str(len(manifest.tensors)),
            "padding": describe_padding(manifest.padding),
            "written": _describe_speed(written, elapsed_s, peak),
        }
        draw_pairs(console, pairs)

    return Report(command="split", data=data, text=draw)


def _describe_speed(written: int, elapsed_s: float, peak: int) -> str:
    rate = written / 1e6 / elapsed_s
    return (
        f"{written / 1e6:.1f} MB in {elapsed_s:.1f} s ({rate:.0f} MB/s), {peak / 1e6:.0f} MB memory"
    )


def _describe_ranks(manifest: "SplitManifest") -> str:
    sizes = bytes_per_rank(manifest)
    if manifest.linked is not None:
        count = len(manifest.linked.files)
        linked = f"linked to {count} file{'s' if count > 1 else ''}"
        return f"tp={manifest.tp}, {manifest.dtype}, {linked}"
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
    if manifest.layout == "transformers-neuronx":
        return [sum(size for path, size in sizes.items() if "/" in path)]
    if manifest.linked is not None:
        infos = manifest.tensors.values()
        item_bytes = DTYPES[manifest.dtype].size_bytes
        return [sum(prod(t.rule.rank_shape) * item_bytes for t in infos)] * manifest.tp
    return [sum(sizes[p] for p in manifest.rank_files(rank)) for rank in range(manifest.tp)]


def describe_padding(cost: "PaddingCost") -> str:
    """What padding and replication add, in one line."""
    params, flops = cost.extra_params_percent, cost.extra_flops_percent
    heads = f"{cost.extra_q_heads} query and {cost.extra_kv_heads} KV heads added"
    if not cost.extra_q_heads and not cost.extra_kv_heads:
        heads = "no heads added"
    return f"{heads}; over all ranks {params:+.1f} % parameters, {flops:+.1f} % FLOPs"


def describe_split(manifest: "SplitManifest") -> dict[str, object]:
    """What to tell about a split: sizes and what padding costs."""
    cost, adapter = manifest.padding, manifest.adapter
    return {
        "source": manifest.source,
        **({} if adapter is None else {"adapter": asdict(adapter)}),
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
