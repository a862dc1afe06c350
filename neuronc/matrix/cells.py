"""A recipe file with ``[[build]]`` tables -> its cells, each one build of one artifact.

The keys at the top are the defaults of every cell, a ``[[build]]`` table is one cell or, with a
``matrix``, one cell for each combination of the values listed there::

    checkpoint = "org/model"
    max_length = 512
    out = "artifacts/{name}"

    [[build]]
    name = "small"

    [[build]]
    name = "served"
    dtype = "bf16"
    matrix = { tp = [2, 4], batch_size = [1, 8] }

gives ``small``, ``served-tp2-batch_size1``, ``served-tp2-batch_size8``, ``served-tp4-batch_size1``
and ``served-tp4-batch_size8``. A cell without a name is named after the keys of its own. A key of
the cell replaces the default as a whole, lists too. A file without ``[[build]]`` is one cell, named
as the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronc.errors import InputError, NeuroncError, UsageError
from neuronc.matrix.expand import Draft, expand
from neuronc.matrix.places import check_places, place_of
from neuronc.recipe import Recipe, merge_flags
from neuronc.recipe_file import check_keys, read_toml, recipe_of

BUILD = "build"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One build of a file.

    Attributes:
        name: Unique in the file; a plain file name.
        recipe: What to build, defaults and flags included; its ``out`` is None where a file that is
            a single cell names no place, which `neuronc build` refuses.
        out: Output folder, relative to the current directory.
        source: The checkpoint as it was written, in the file or as a flag.
        adapter: The adapter as it was written; None without one.
    """

    name: str
    recipe: Recipe
    out: Path
    source: str
    adapter: str | None = None


def has_builds(path: Path) -> bool:
    """Whether the recipe file ``path`` has ``[[build]]`` tables.

    Raises:
        InputError: it cannot be read, or is no TOML.
    """
    return BUILD in read_toml(path)


def load_cells(path: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Cell, ...]:
    """Every cell of the recipe file ``path``, in the order of the file.

    Nothing is opened but the file. Relative paths of checkpoints and adapters are to the file.

    Args:
        path: A ``.toml`` file.
        overrides: Flags, as for `merge_flags`: they replace the defaults of the file for every
            cell. An ``out`` is the folder that holds the cells' folders, or has placeholders.

    Raises:
        InputError: the file cannot be read or understood, a key is unknown or impossible, or two
            cells have one name or output folder; the message names the file and the cell.
        UsageError: a flag is about a key that a cell sets itself, or is impossible for a cell.
    """
    table = read_toml(path)
    subject = f"recipe {path}"
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    check_keys(table, subject=subject, others={BUILD: list})
    drafts = _drafts(table, path, subject)
    cells = tuple(_cell(draft, given, subject, path.parent) for draft in drafts)
    check_places(subject, {cell.name: (cell.out, cell.recipe) for cell in cells})
    return cells


def _drafts(table: dict[str, Any], path: Path, subject: str) -> tuple[Draft, ...]:
    if BUILD not in table:
        return (Draft(name=path.stem, table=table, own=frozenset(), is_single=True),)
    builds = table[BUILD]
    if not builds or not all(isinstance(build, dict) for build in builds):
        message = f"{subject}: {BUILD} is {builds!r:.80}; expected tables"
        raise InputError(message, hint="write [[build]] above the keys of each build")
    defaults = {key: value for key, value in table.items() if key != BUILD}
    return expand(defaults, builds, subject=subject)


def _cell(draft: Draft, given: Mapping[str, Any], subject: str, folder: Path) -> Cell:
    clashing = sorted(draft.own & given.keys())
    if clashing:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in clashing)
        message = f"{flags} given, and build {draft.name!r} of {subject} sets that itself"
        raise UsageError(message, hint="edit the file, or choose other builds with --only")
    where = subject if draft.is_single else f"{subject}, build {draft.name!r}"
    recipe = recipe_of(dict(draft.table), subject=where, folder=folder)
    try:
        recipe = merge_flags(recipe, **{key: v for key, v in given.items() if key != "out"})
    except NeuroncError as error:
        error.message = f"build {draft.name!r} of {subject}: {error.message}"
        raise
    out = place_of(draft, recipe, given.get("out"), subject=where)
    is_unplaced = draft.is_single and recipe.out is None and "out" not in given
    return Cell(
        name=draft.name,
        recipe=replace(recipe, out=None if is_unplaced else out),
        out=out,
        source=str(given.get("checkpoint") or draft.table["checkpoint"]),
        adapter=given.get("adapter") or draft.table.get("adapter"),
    )
