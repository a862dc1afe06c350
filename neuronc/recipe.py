"""A recipe file (TOML) or flags -> one frozen `Recipe`; whatever cannot be honoured is refused."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from neuronc.checkpoint.remote.url import is_url
from neuronc.errors import InputError, UsageError

DtypeChoice = Literal["auto", "f32", "bf16", "f16"]
TaskChoice = Literal["auto", "generate", "embed"]
PoolingChoice = Literal["mean", "cls"]
QuantizeChoice = Literal["int8", "fp8_e4m3"]
TargetName = Literal["cpu", "inf2", "trn1", "trn1n", "trn2", "trn3"]
Place = Literal["target", "cpu"]
"""Where to run: on what an artifact was compiled for, or its programs on this machine's CPU."""

DTYPE_CHOICES: tuple[str, ...] = get_args(DtypeChoice)
TARGET_NAMES: tuple[str, ...] = get_args(TargetName)
TASK_CHOICES: tuple[str, ...] = get_args(TaskChoice)
POOLING_CHOICES: tuple[str | None, ...] = (*get_args(PoolingChoice), None)
QUANTIZE_CHOICES: tuple[str | None, ...] = (*get_args(QuantizeChoice), None)

_INTS = ("tp", "batch_size", "max_length", "lnc")
_LARGEST = 2**31 - 1  # positions are i32
_MAX_RECIPE_BYTES = 1_000_000
_INT_LISTS = ("prefill_buckets", "decode_buckets", "buckets")
_LISTS = {**dict.fromkeys(_INT_LISTS, int), "cc_args": str}
_CHOICES = {
    "dtype": DTYPE_CHOICES,
    "target": TARGET_NAMES,
    "task": TASK_CHOICES,
    "pooling": POOLING_CHOICES,
    "quantize": QUANTIZE_CHOICES,
}
_BOOLS = ("normalize", "on_device_sampling", "top_k_call")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What to build; the defaults of every command are the defaults here.

    Attributes:
        checkpoint: Local path, Hub id, ``.gguf`` file, ``package:NAME/FILE`` or URL.
        revision: Branch, tag or commit of a Hub id.
        adapter: Folder of a PEFT LoRA adapter to merge into the weights.
        task: One of `TASK_CHOICES`; auto embeds with encoders and generates with decoders.
        tp: Tensor-parallel degree, the number of ranks.
        batch_size: Slots of the decode programs, or texts that are embedded together.
        max_length: Tokens a slot's KV cache holds, or a text may have; None leaves it to the
            model's positions.
        prefill_buckets: Prompt lengths to compile for, ascending; empty leaves it to the build.
        decode_buckets: KV cache lengths to compile decode for, ascending; empty as above.
        buckets: Text lengths to compile for when embedding, ascending; empty as above.
        pooling: One of `POOLING_CHOICES`; None leaves it to the checkpoint.
        normalize: Whether embeddings have length 1; None leaves it to the checkpoint.
        dtype: One of `DTYPE_CHOICES`.
        quantize: One of `QUANTIZE_CHOICES`: how the weights of linear layers are stored; None
            stores them in ``dtype``, or leaves it to a split folder.
        target: One of `TARGET_NAMES`.
        lnc: Logical core size of a Neuron target; None is the target's own.
        cc_args: Arguments for neuronx-cc, verbatim, after neuronc's own.
        on_device_sampling: Whether programs that generate give the most likely tokens as well.
        top_k_call: Whether neuronx-cc gets its own, unverified custom call for top-k.
        out: Output folder, relative to the current directory.
    """

    checkpoint: str
    revision: str | None = None
    adapter: str | None = None
    task: str = "auto"
    tp: int = 1
    batch_size: int = 1
    max_length: int | None = None
    prefill_buckets: tuple[int, ...] = ()
    decode_buckets: tuple[int, ...] = ()
    buckets: tuple[int, ...] = ()
    pooling: str | None = None
    normalize: bool | None = None
    dtype: str = "auto"
    quantize: str | None = None
    target: str = "cpu"
    lnc: int | None = None
    cc_args: tuple[str, ...] = ()
    on_device_sampling: bool = False
    top_k_call: bool = False
    out: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """All fields in JSON terms: lists for tuples, text for paths."""
        plain: dict[str, object] = asdict(self)
        plain.update({key: list(getattr(self, key)) for key in _LISTS})
        plain["out"] = None if self.out is None else str(self.out)
        return plain


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
    problem: _Problem = None
    if "checkpoint" not in table:
        problem = ("checkpoint is missing", 'add a line like checkpoint = "org/name"')
    if problem is None:
        recipe = _from_table(table)
        problem = _impossible_value(recipe)
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


def merge_flags(recipe: Recipe, **overrides: Any) -> Recipe:
    """``recipe`` with the flags that were given; an override of None was not given.

    Raises:
        UsageError: The flags ask for something impossible, alone or together with the recipe.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    merged = replace(recipe, **given)
    problem = _impossible_value(merged)
    if problem is not None:
        raise UsageError(problem[0], hint=problem[1])
    return merged


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


# A problem is (what is wrong, the way out); None means none.
_Problem = tuple[str, str] | None


def _unknown_key(table: dict[str, Any], others: Iterable[str] = ()) -> _Problem:
    known = [*(field.name for field in fields(Recipe)), *others]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            return f"unknown key {key[:80]!r}", hint
    return None


def _wrong_type(table: dict[str, Any]) -> _Problem:
    for key, value in table.items():
        if key in _LISTS:
            item = _LISTS[key]
            expected, found = f"list of {item.__name__}", _list_type(value, item)
        else:
            expected, found = _expected(key), type(value).__name__
        if found != expected:
            example = _EXAMPLES[expected].format(key=key)
            return f"{key}: expected {expected}, found {found}", f"write {example}"
    return None


def _wrong_other(table: dict[str, Any], others: Mapping[str, type]) -> _Problem:
    for key, kind in others.items():
        if key in table and type(table[key]) is not kind:
            found, example = type(table[key]).__name__, _EXAMPLES[kind.__name__].format(key=key)
            return f"{key}: expected {kind.__name__}, found {found}", f"write {example}"
    return None


def _expected(key: str) -> str:
    return "int" if key in _INTS else "bool" if key in _BOOLS else "str"


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
    values.update({key: tuple(table[key]) for key in _LISTS if key in table})
    if "out" in table:
        values["out"] = Path(table["out"])
    return Recipe(**values)


def _impossible_value(recipe: Recipe) -> _Problem:
    for key in ("checkpoint", "revision", "adapter", "out"):
        if "\0" in str(getattr(recipe, key)):
            return f"{key} holds a NUL character", "no file has one in its name"
    if not recipe.checkpoint:
        return (
            "checkpoint is empty",
            "name a folder, a .gguf file, a Hub id, a URL or package:NAME/FILE",
        )
    for key in _INTS:
        value = getattr(recipe, key)
        if value is not None and not 1 <= value <= _LARGEST:
            return f"{key} is {value}; expected 1 to {_LARGEST}", f"change {key}"
    for key, choices in _CHOICES.items():
        if getattr(recipe, key) not in choices:
            named = ", ".join(choice for choice in choices if choice is not None)
            return f"{key} is {getattr(recipe, key)!r}", f"choose one of {named}"
    problems = [
        _impossible_buckets(key, getattr(recipe, key), recipe.max_length) for key in _INT_LISTS
    ]
    return next((p for p in (*problems, _misplaced(recipe)) if p is not None), None)


def _misplaced(recipe: Recipe) -> _Problem:
    if recipe.task == "embed" and (recipe.prefill_buckets or recipe.decode_buckets):
        return "prefill and decode buckets are for generating", "pass --buckets to embed"
    if recipe.task == "embed" and recipe.on_device_sampling:
        message = "on_device_sampling is for generating, and the task is to embed"
        return message, "leave out --on-device-sampling"
    for key in ("lnc", "cc_args", "top_k_call"):
        if recipe.target == "cpu" and getattr(recipe, key):
            return f"{key} is for Neuron targets, and the target is cpu", "choose a Neuron target"
    return None


def _impossible_buckets(key: str, buckets: tuple[int, ...], max_length: int | None) -> _Problem:
    if list(buckets) != sorted(set(buckets)) or any(bucket < 1 for bucket in buckets):
        return f"{key} is {list(buckets)}; buckets are positive and ascending", f"reorder {key}"
    if max_length is not None and buckets and buckets[-1] > max_length:
        message = f"{key} holds {buckets[-1]}, more than max_length {max_length}"
        return message, f"drop that bucket or raise max_length to {buckets[-1]}"
    return None


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
