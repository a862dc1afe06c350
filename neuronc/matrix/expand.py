"""The ``[[build]]`` tables of a file, and the product of their matrices, with a name for each."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import product
from typing import Any

from neuronc.errors import InputError
from neuronc.recipe_file import check_keys

NAME, MATRIX, OUT = "name", "matrix", "out"
_MAX_CELLS = 1000
_MAX_NAME = 100
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A cell whose values are not checked yet.

    Attributes:
        name: Of the cell.
        table: Keys of a recipe, defaults included.
        own: The keys that the cell does not take from the defaults.
        is_single: The file has no ``[[build]]`` and is this cell.
    """

    name: str
    table: Mapping[str, Any]
    own: AbstractSet[str]
    is_single: bool = False


def expand(
    defaults: Mapping[str, Any], builds: Sequence[dict[str, Any]], *, subject: str
) -> tuple[Draft, ...]:
    """The cells of all ``builds``, in order; see `neuronc.matrix.cells`.

    Raises:
        InputError: an unknown key, a name or matrix that is none, two cells of one name, or more
            cells than anyone can mean.
    """
    drafts: dict[str, Draft] = {}
    for number, build in enumerate(builds, 1):
        where = f"{subject}, [[build]] number {number}"
        for draft in _drafts(defaults, build, where):
            if draft.name in drafts:
                message = f"{where}: a second build is named {draft.name!r}"
                raise InputError(message, hint='give each a name of its own: name = "..."')
            drafts[draft.name] = draft
            if len(drafts) > _MAX_CELLS:
                raise _too_many(subject)
    return tuple(drafts.values())


def _drafts(defaults: Mapping[str, Any], build: dict[str, Any], where: str) -> Iterator[Draft]:
    check_keys(build, subject=where, others={NAME: str, MATRIX: dict})
    own = {key: value for key, value in build.items() if key not in (NAME, MATRIX)}
    matrix = build.get(MATRIX, {})
    _check_matrix(matrix, own, where)
    stem = build.get(NAME)
    told = own if stem is None else {}
    for values in product(*matrix.values()):
        chosen = dict(zip(matrix, values, strict=True))
        parts = [] if stem is None else [stem]
        parts += [_part(key, value) for key, value in {**told, **chosen}.items() if key != OUT]
        name = "-".join(parts)
        _check_name(name, where)
        yield Draft(name=name, table={**defaults, **own, **chosen}, own=own.keys() | chosen.keys())


def _check_matrix(matrix: dict[str, Any], own: Mapping[str, Any], where: str) -> None:
    where = f"{where}, {MATRIX}"
    example = "write matrix = { tp = [1, 2] }"
    for key, values in matrix.items():
        if key in own or key == OUT:
            why = "is set beside it as well" if key in own else "is the place of one artifact"
            message = f"{where}: {key} {why}"
            hint = "say it once" if key in own else 'write out = "somewhere/{name}" beside it'
            raise InputError(message, hint=hint)
        if not isinstance(values, list) or not values:
            message = f"{where}: {key} is {values!r:.80}; expected a list of values"
            raise InputError(message, hint=example)
        for value in values:
            check_keys({key: value}, subject=where)
    if math.prod(len(values) for values in matrix.values()) > _MAX_CELLS:
        raise _too_many(where)


def _check_name(name: str, where: str) -> None:
    if not name:
        message = f"{where}: it has no name, and no keys of its own to be named after"
        raise InputError(message, hint='add name = "..."')
    if not _PLAIN.fullmatch(name) or len(name) > _MAX_NAME:
        message = f"{where}: name is {name[:_MAX_NAME]!r}; expected at most {_MAX_NAME} letters,"
        message += " digits and . _ + -, a letter or digit first"
        raise InputError(message, hint='add name = "..." to the table')


def _part(key: str, value: object) -> str:
    """What a value adds to a name: ``tp2``, ``prefill_buckets32_128``, ``bf16``, ``no_normalize``."""
    if isinstance(value, bool):
        return key if value else f"no_{key}"
    if isinstance(value, str):
        return _plain(value.rstrip("/").rpartition("/")[2])
    if isinstance(value, list):
        return key + "_".join(_plain(str(item)) for item in value)
    return f"{key}{value}"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+]+", "_", text).strip("_")


def _too_many(subject: str) -> InputError:
    message = f"{subject}: more than {_MAX_CELLS} builds"
    return InputError(message, hint="leave out values of a matrix, or write several files")
