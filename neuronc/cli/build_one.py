"""One build, as the flags ask for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from neuronc.cli.build_flags import BuildFlags
from neuronc.recipe import Recipe

if TYPE_CHECKING:
    from neuronc.built import Built
    from neuronc.progress import Progress


def build_one(
    recipe: Recipe, out: Path, flags: BuildFlags, progress: "Progress", *, name: str = ""
) -> "Built":
    """The artifact of ``recipe`` at ``out``; one of several builds has a ``name``.

    Raises:
        NeuroncError: what a build refuses.
    """
    from neuronc import pipeline

    built = pipeline.build_cached(
        recipe,
        out,
        verify=not flags.no_verify,
        overwrite=flags.overwrite,
        dump_ir=None if flags.dump_ir is None else flags.dump_ir / name,
        options=flags.compile_options,
        cache=flags.open_cache(),
        progress=progress,
    )
    if not flags.check_reproducible:
        return built
    return pipeline.check_reproducible(
        recipe, built, options=flags.compile_options, progress=progress
    )
