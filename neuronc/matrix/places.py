"""Where each cell's artifact goes, and that no cell can destroy another's."""

from collections.abc import Mapping
from pathlib import Path
from string import Formatter

from neuronc.artifact.atomic import require_apart
from neuronc.errors import InputError, UsageError
from neuronc.matrix.expand import OUT, Draft
from neuronc.recipe import Recipe

DEFAULT_OUT = "artifacts/{name}"
_FIELDS = ("name", "target", "tp", "batch_size", "max_length", "dtype", "quantize", "task", "lnc")


def place_of(draft: Draft, recipe: Recipe, given: Path | None, *, subject: str) -> Path:
    """The output folder of a cell.

    ``out`` of the file, its placeholders (``{name}`` and those of `_FIELDS`) filled in; without one
    ``artifacts/NAME``. A ``given`` flag replaces it: the folder that holds the cells' folders, or a
    text with placeholders of its own. Of a file that is a single cell both are taken as they are.

    Raises:
        InputError: a placeholder that there is not, or that the cell has no value for.
        UsageError: the same of the flag.
    """
    error = InputError if given is None else UsageError
    text = draft.table.get(OUT) if given is None else str(given)
    if draft.is_single and text is not None:
        return Path(text)
    if text is None:
        text = DEFAULT_OUT
    elif given is not None and "{" not in text:
        text = f"{text.replace('}', '}}')}/{{name}}"
    try:
        return Path(_filled(text, {**_values(recipe), "name": draft.name}))
    except ValueError as problem:
        message = f"{subject}: out is {text!r:.200}: {problem}"
        raise error(message, hint=f"placeholders are {', '.join(_FIELDS)}") from problem


def check_places(subject: str, cells: Mapping[str, tuple[Path, Recipe]]) -> None:
    """Refuse cells that would write into each other, or over a checkpoint that a cell reads.

    Args:
        subject: The file, for messages.
        cells: Output folder and recipe by name.

    Raises:
        InputError: two have one output folder, or one's lies in another's.
        UsageError: an output folder holds a checkpoint or adapter.
    """
    owners: dict[Path, str] = {}
    for name, (out, _) in cells.items():
        owners.setdefault(out.resolve(), name)
    for name, (out, _) in cells.items():
        place = out.resolve()
        above = [owners[folder] for folder in (place, *place.parents) if folder in owners]
        other = next((owner for owner in above if owner != name), None)
        if other is not None:
            where = (
                "the output folder" if cells[other][0].resolve() == place else "a folder in that"
            )
            message = f"{subject}: build {name!r} has {where} of build {other!r}: {out}"
            raise InputError(message, hint='write out = "somewhere/{name}" at the top')
    sources = {(recipe.checkpoint, recipe.adapter) for _, recipe in cells.values()}
    for out, _ in cells.values():
        for checkpoint, adapter in sorted(sources, key=str):
            require_apart(out, "checkpoint", checkpoint)
            require_apart(out, "adapter", adapter)


def _values(recipe: Recipe) -> dict[str, object]:
    return {key: getattr(recipe, key) for key in _FIELDS if key != "name"}


def _filled(text: str, values: Mapping[str, object]) -> str:
    parts = []
    for literal, field, spec, conversion in Formatter().parse(text):
        parts.append(literal)
        if field is None:
            continue
        if field not in values or spec or conversion:
            message = f"there is no placeholder {{{field}}}"
            raise ValueError(message)
        if values[field] is None:
            message = f"the build sets no {field}"
            raise ValueError(message)
        parts.append(str(values[field]))
    return "".join(parts)
