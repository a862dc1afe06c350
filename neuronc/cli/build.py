"""neuronc build: split, compile and verify, from a recipe or straight from a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from neuronc.cli.build_cells import (
    CellFlags,
    JunitOption,
    KeepGoingFlag,
    LockedFlag,
    OnlyOption,
    ShardOption,
    UpdateLockFlag,
    build_cells,
    has_cells,
)
from neuronc.cli.build_flags import BuildFlags, takes_build_flags
from neuronc.cli.build_one import build_one
from neuronc.cli.built_report import report_built
from neuronc.cli.options import require_out
from neuronc.cli.output import Report
from neuronc.recipe import Recipe, merge_flags
from neuronc.recipe_file import load_recipe

EXAMPLES = (
    "neuronc build recipes/smollm2/135m_cpu_matrix.toml --shard 1/2 --junit build.xml",
    "neuronc build org/model -o artifact --tp 2 --max-length 512",
)


@takes_build_flags
def build(
    recipe: Annotated[str, typer.Argument(help="A .toml recipe, or a checkpoint.")],
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="CHECKPOINT", help="In place of the recipe's."),
    ] = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
    locked: LockedFlag = False,
    update_lock: UpdateLockFlag = False,
    keep_going: KeepGoingFlag = True,
    junit: JunitOption = None,
    flags: BuildFlags,
) -> Report:
    """Make a verified artifact of a recipe or checkpoint, or one for each [[build]] of a recipe.

    An artifact that is there already is checked and kept when it is what was asked for. Of several
    builds some failed: exit 12, and what is whole is kept.
    """
    cells = CellFlags(
        only=tuple(only or ()),
        shard=shard,
        locked=locked,
        update_lock=update_lock,
        keep_going=keep_going,
        junit=junit,
    )
    if has_cells(recipe, cells):
        return build_cells(Path(recipe), {"checkpoint": checkpoint}, cells, flags)
    from neuronc.cli.progress import make_progress

    start = load_recipe(Path(recipe)) if recipe.endswith(".toml") else Recipe(checkpoint=recipe)
    asked = merge_flags(start, checkpoint=checkpoint, **flags.overrides)
    built = build_one(asked, require_out(asked.out), flags, make_progress(flags.quiet))
    return report_built("build", built)
