"""Reads facts about a family out of transformers' configuration source, without importing it.

Importing a transformers configuration class imports torch (seconds and hundreds of megabytes)
only to read a dict literal. The tp plan and the field defaults are literals in
``models/<family>/configuration_<family>.py``, so they are parsed instead.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from neuronc.errors import InputError, ToolchainError

_PATTERNS = "_MODEL_TO_CONVERSION_PATTERN"
_PINNED = "install the transformers version neuronc is pinned to"


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilySource:
    """What transformers' configuration class of one model type says.

    Attributes:
        model_type: ``model_type`` of config.json.
        tp_plan: ``base_model_tp_plan``: module pattern to split style; empty if there is none, or
            none that is a literal.
        defaults: Literal defaults of the configuration's fields.
    """

    model_type: str
    tp_plan: Mapping[str, str]
    defaults: Mapping[str, Any]


@cache
def read_family_source(model_type: str) -> FamilySource:
    """Parse the configuration class of ``model_type``.

    Raises:
        InputError: transformers has no such model type; the nearest known one is named.
        ToolchainError: transformers is not installed, or laid out in another way.
    """
    folder = _family_folder(model_type)
    for path in sorted(folder.glob("configuration_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8"), filename=path.name).body:
            literals = _class_literals(node) if isinstance(node, ast.ClassDef) else {}
            if literals.get("model_type") == model_type:
                plan = literals.get("base_model_tp_plan") or {}
                return FamilySource(model_type=model_type, tp_plan=plan, defaults=literals)
    message = f"transformers lists {model_type!r}, but {folder.name} has no configuration for it"
    raise ToolchainError(message, hint=_PINNED)


def known_model_types() -> tuple[str, ...]:
    """Every model type transformers maps to a configuration."""
    return tuple(_auto_mapping("CONFIG_MAPPING_NAMES"))


def masked_model_types() -> frozenset[str]:
    """Model types that are encoders unless told to be decoders: those with a masked LM."""
    return frozenset(_auto_mapping("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "modeling_auto.py"))


def causal_model_types() -> frozenset[str]:
    """Model types that transformers maps to a causal LM."""
    return frozenset(_auto_mapping("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "modeling_auto.py"))


def checkpoint_pattern(model_type: str) -> str | None:
    """The family whose checkpoints those of ``model_type`` are named like; None for no other."""
    return _literal_dict(_transformers_dir() / "conversion_mapping.py", _PATTERNS).get(model_type)


def _family_folder(model_type: str) -> Path:
    if model_type not in known_model_types():
        near = difflib.get_close_matches(model_type, known_model_types(), n=3)
        message = f"unknown architecture: model_type {model_type!r} is not in transformers"
        found = f"nearest known: {', '.join(near)}; " if near else ""
        raise InputError(message, hint=f"{found}check model_type in config.json")
    name = _auto_mapping("SPECIAL_MODEL_TYPE_TO_MODULE_NAME").get(model_type, model_type)
    models = _transformers_dir() / "models"
    folders = (models / name.replace("-", "_"), models / "deprecated" / name.replace("-", "_"))
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _transformers_dir() -> Path:
    spec = importlib.util.find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        message = "transformers is not installed, and it holds the tensor-parallel plans"
        raise ToolchainError(message, hint="pip install neuronc again")
    return Path(next(iter(spec.submodule_search_locations)))


def _auto_mapping(name: str, file: str = "auto_mappings.py") -> dict[str, str]:
    return _literal_dict(_transformers_dir() / "models" / "auto" / file, name)


@cache
def _literal_dict(path: Path, name: str) -> dict[str, str]:
    for node in ast.parse(_statement(path.read_text(encoding="utf-8"), name)).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == name and isinstance(node, ast.Assign):
            call = node.value
            literal = call.args[0] if isinstance(call, ast.Call) else call
            return dict(ast.literal_eval(literal))
    message = f"{path.name} of transformers does not define {name}"
    raise ToolchainError(message, hint=_PINNED)


def _statement(source: str, name: str) -> str:
    """From where ``name`` is assigned on to the next statement: parsing a long file takes a while."""
    begin = re.search(rf"^{name}\s*=", source, re.MULTILINE)
    if begin is None:
        return ""
    end = re.compile(r"^[^\s)\]}#]", re.MULTILINE).search(source, begin.end())
    return source[begin.start() : end.start() if end else None]


def _class_literals(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in node.body:
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name, value = item.targets[0].id, item.value
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value:
            name, value = item.target.id, item.value
        else:
            continue
        with suppress(ValueError):  # computed in code: then the config file must say it
            found[name] = _literal(value)
    return found


def _literal(value: ast.expr) -> Any:
    """A plain literal, one inside ``interval(min=0.0)(default=0.02)``, or a product (``4096 * 32``)."""
    if isinstance(value, ast.Call):
        value = next((k.value for k in value.keywords if k.arg == "default"), value)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
        return _literal(value.left) * _literal(value.right)
    return ast.literal_eval(value)
