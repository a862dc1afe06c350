"""A recipe file (TOML) -> a `Recipe`; what is unknown or of another type is refused by name."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from neuronc.checkpoint.remote.url import is_url
from neuronc.errors import InputError
from neuronc.recipe import BOOLS, INTS, LISTS, Problem, Recipe, impossible_value

_MAX_RECIPE_BYTES = 1_000_000
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def load_recipe(path: Path) -> Recipe:
    """The recipe in the file ``path``; relative paths of checkpoint and adapter are to the file.

    A file with ``[[build]]`` tables is for `neuronc.matrix.cells.load_cells`.

    Raises:
        InputError: Unreadable file, bad TOML, unknown key, wrong type or impossible value; the
            message names the file and the key.
    """
    return recipe_of(read_toml(path), subject=f"recipe {path}", folder=path.parent)


def recipe_of(table: dict[str, Any], *, subject: str, folder: Path) -> Recipe:
    """The recipe that ``table`` spells; relative paths of checkpoint and adapter are to ``folder``.

    Raises:
        InputError: as `load_recipe`; the message begins with ``subject``.
    """
    check_keys(table, subject=subject)
    problem: Problem = None
    if "checkpoint" not in table:
        problem = ("checkpoint is missing", 'add a line like checkpoint = "org/name"')
    if problem is None:
        recipe = _from_table(table)
        problem = impossible_value(recipe)
    if problem is not None:
        message = f"{subject}: {problem[0]}"
        raise InputError(message, hint=problem[1])
    adapter = None if recipe.adapter is None else str((folder / recipe.adapter).resolve())
    checkpoint = _beside_file(recipe.checkpoint, folder)
    return replace(recipe, checkpoint=checkpoint, adapter=adapter)


def check_keys(
    table: dict[str, Any], *, subject: str, others: Mapping[str, type] | None = None
) -> None:
    """Refuse keys that no `Recipe` has, and values of another type.

    Args:
        table: Some of a recipe's keys.
        subject: What the message begins with.
        others: Keys beside a recipe's, each with its type.

    Raises:
        InputError: it names the key, and the nearest known one.
    """
    more = others or {}
    own = {key: value for key, value in table.items() if key not in more}
    problem = _unknown_key(own, more) or _wrong_type(own) or _wrong_other(table, more)
    if problem is not None:
        message = f"{subject}: {problem[0]}"
        raise InputError(message, hint=problem[1])


def read_toml(path: Path) -> dict[str, Any]:
    """The table in the file ``path``.

    Raises:
        InputError: it cannot be read, is no TOML, or is larger than any recipe.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would make us wait without end
            message = f"recipe {path} is not a file"
            raise InputError(message, hint="pass the path of a .toml file")
        if path.stat().st_size > _MAX_RECIPE_BYTES:
            message = f"recipe {path} has {path.stat().st_size} bytes; a recipe has a few lines"
            raise InputError(message, hint="pass the path of a .toml file")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"recipe {path} cannot be read: {error.strerror}"
        raise InputError(message, hint="pass the path of a .toml file") from error
    except UnicodeDecodeError as error:
        message = f"recipe {path} is not UTF-8 text: byte {error.start} is invalid"
        raise InputError(message, hint="a recipe is a TOML text file") from error
    except (ValueError, RecursionError) as error:  # of TOML, or of a number with 5000 digits
        message = f"recipe {path} is not valid TOML: {error}"
        raise InputError(
            message, hint='a line reads key = value; text stands in "quotes"'
        ) from error


def _unknown_key(table: dict[str, Any], others: Iterable[str] = ()) -> Problem:
    known = [*(field.name for field in fields(Recipe)), *others]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            return f"unknown key {key[:80]!r}", hint
    return None


def _wrong_type(table: dict[str, Any]) -> Problem:
    for key, value in table.items():
        if key in LISTS:
            item = LISTS[key]
            expected, found = f"list of {item.__name__}", _list_type(value, item)
        else:
            expected, found = _expected(key), type(value).__name__
        if found != expected:
            example = _EXAMPLES[expected].format(key=key)
            return f"{key}: expected {expected}, found {found}", f"write {example}"
    return None


def _wrong_other(table: dict[str, Any], others: Mapping[str, type]) -> Problem:
    for key, kind in others.items():
        if key in table and type(table[key]) is not kind:
            found, example = type(table[key]).__name__, _EXAMPLES[kind.__name__].format(key=key)
            return f"{key}: expected {kind.__name__}, found {found}", f"write {example}"
    return None


def _expected(key: str) -> str:
    return "int" if key in INTS else "bool" if key in BOOLS else "str"


_EXAMPLES = {
    "int": "{key} = 2",
    "bool": "{key} = true",
    "str": '{key} = "..."',
    "list of int": "{key} = [32]",
    "list of str": '{key} = ["--..."]',
    "dict": "{key} = {{ tp = [1, 2] }}",
    "list": "[[{key}]] above each build",
}


def _list_type(value: object, wanted: type) -> str:
    if not isinstance(value, list):
        return type(value).__name__
    # `type` and not `isinstance`: TOML's true is no number, although Python's bool is an int.
    odd = next((item for item in value if type(item) is not wanted), None)
    return f"list of {wanted.__name__}" if odd is None else f"list holding {type(odd).__name__}"


def _from_table(table: dict[str, Any]) -> Recipe:
    values = dict(table)
    values.update({key: tuple(table[key]) for key in LISTS if key in table})
    if "out" in table:
        values["out"] = Path(table["out"])
    return Recipe(**values)


def _beside_file(checkpoint: str, folder: Path) -> str:
    """``checkpoint`` as the rest of the program reads it, from any current directory."""
    if checkpoint.startswith("package:") or is_url(checkpoint):
        return checkpoint
    local = folder / checkpoint
    is_hub_id = _HUB_ID.fullmatch(checkpoint) and not checkpoint.endswith(".gguf")
    if is_hub_id and not local.exists():
        return checkpoint
    # Absolute, so that a missing folder `recipes/x` can never be taken for a Hub id.
    return str(local.resolve())
