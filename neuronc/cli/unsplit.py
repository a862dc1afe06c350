"""neuronc unsplit: a split folder back to the checkpoint that it was made of."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from neuronc.cli.options import (
    JsonFlag,
    MaxFileSizeOption,
    OutOption,
    OverwriteFlag,
    QuietFlag,
    require_out,
)
from neuronc.cli.output import Report

EXAMPLES = (
    "neuronc unsplit weights -o checkpoint",
    "neuronc unsplit artifact/weights -o checkpoint --max-file-size 2GB --json",
)


def unsplit(
    folder: Annotated[Path, typer.Argument(help="Folder made by split, in any layout.")],
    *,
    out: OutOption = None,
    max_file_size: MaxFileSizeOption = None,
    overwrite: OverwriteFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Write a checkpoint's own tensors back, bit for bit, from the parts that ranks hold.

    Padding and replicated heads are dropped again.
    """
    from neuronc import splitting
    from neuronc.cli.progress import make_progress

    out_dir = require_out(out)
    found = splitting.unsplit(
        folder,
        out_dir,
        max_file_bytes=max_file_size,
        overwrite=overwrite,
        progress=make_progress(quiet),
    )

    def draw(console: object) -> None:
        from neuronc.cli.tables import draw_pairs

        pairs = {
            "checkpoint": str(out_dir),
            "files": ", ".join(found.files),
            "tensors": str(found.num_tensors),
            "size": f"{found.size_bytes / 1e6:.1f} MB",
        }
        draw_pairs(console, pairs)

    warnings = []
    if found.narrowed:
        what = f"{len(found.narrowed)} tensors, first {found.narrowed[0]!r}"
        warnings.append(f"{what}, were rounded when they were split, and stay so")
    if found.left_out:
        what = f"{len(found.left_out)} tensors, first {found.left_out[0]!r}"
        warnings.append(f"{what}, are no parameters of the model and were not split")
    if found.adapter is not None:
        warnings.append(f"adapter {found.adapter} is merged into these weights, and stays so")
    data = {"path": str(out_dir), **asdict(found)}
    return Report(command="unsplit", data=data, text=draw, warnings=tuple(warnings))
