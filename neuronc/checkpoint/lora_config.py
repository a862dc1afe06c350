"""``adapter_config.json`` of a PEFT LoRA adapter, narrowed to what merging needs.

Fields and their meaning: PEFT's ``LoraConfig``. One that changes what a layer computes, beyond
``W + scale * B @ A``, is refused by name, and so is one that is not known here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from neuronc.checkpoint.paths import contained_file, read_json_object, shown
from neuronc.errors import InputError

ADAPTER_CONFIG = "adapter_config.json"

Number = TypeVar("Number", int, float)

_READ = (
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
    "fan_in_fan_out", "init_lora_weights", "bias",
)  # fmt: skip
_WITHOUT_EFFECT = (
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_bias", "lora_dropout", "lora_ga_config", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules",
    "task_type", "velora_config",
)  # fmt: skip
"""How it was trained, or what the names of its tensors say as well."""

_PLAIN_INITS = ("true", "false", "gaussian", "eva", "orthogonal")
"""Beginnings that leave the base weights as they are; the others train against changed ones."""

_MAX_RANK = 2**31 - 1
_MAX_REPEATS = 4
"""Repetitions in one pattern: each multiplies the time that a name takes by its length."""

_BIASES = ("none", "all", "lora_only")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """How the factors of every module are scaled.

    Attributes:
        rank: Columns of B and rows of A, where `rank_pattern` does not say otherwise.
        alpha: Numerator of the scale, where `alpha_pattern` does not say otherwise.
        use_rslora: The scale is alpha / sqrt(rank); alpha / rank otherwise.
        rank_pattern: Regular expression of a module's name, or of its end, to its rank.
        alpha_pattern: The same for alpha.
        fan_in_fan_out: Weights of the adapted linear layers are ``[in, out]``.
    """

    rank: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    fan_in_fan_out: bool = False

    def rank_of(self, module: str) -> int:
        """The rank of ``module``'s factors."""
        return _first_match(self.rank_pattern, module, self.rank)

    def scale_of(self, module: str) -> float:
        """What ``B @ A`` of ``module`` is multiplied by."""
        rank = self.rank_of(module)
        alpha = _first_match(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _first_match(patterns: Mapping[str, Number], module: str, default: Number) -> Number:
    for pattern, value in patterns.items():
        if re.match(_whole(pattern), module):
            return value
    return default


def _whole(pattern: str) -> str:
    """What PEFT matches a module's name with."""
    return rf"(.*\.)?({pattern})$"


def read_lora_config(folder: Path) -> LoraConfig:
    """Read ``adapter_config.json`` in ``folder``.

    Raises:
        InputError: there is none, it is no LoRA adapter's, merging it is not exact, or a field is
            not what PEFT writes.
    """
    path = contained_file(folder, ADAPTER_CONFIG)
    if not path.is_file():
        message = f"{folder} is not a PEFT adapter: it has no {ADAPTER_CONFIG}"
        raise InputError(message, hint="pass the folder that PEFT's save_pretrained wrote")
    fields = read_json_object(path)
    _refuse_other_methods(path, fields)
    return LoraConfig(
        rank=_rank(path, "r", fields.get("r", 8)),
        alpha=_alpha(path, "lora_alpha", fields.get("lora_alpha", 8)),
        use_rslora=_flag(path, fields, "use_rslora"),
        rank_pattern={
            key: _rank(path, f"rank_pattern[{key!r}]", value)
            for key, value in _patterns(path, fields, "rank_pattern").items()
        },
        alpha_pattern={
            key: _alpha(path, f"alpha_pattern[{key!r}]", value)
            for key, value in _patterns(path, fields, "alpha_pattern").items()
        },
        fan_in_fan_out=_flag(path, fields, "fan_in_fan_out"),
    )


def _refuse_other_methods(path: Path, fields: Mapping[str, Any]) -> None:
    if (kind := fields.get("peft_type")) != "LORA":
        message = f"{path} has peft_type {kind!r}; neuronc merges LORA"
        raise InputError(message, hint="merge it with PEFT, and pass the merged checkpoint")
    begun = fields.get("init_lora_weights", True)
    if str(begun).lower() not in _PLAIN_INITS:
        message = f"{path} has init_lora_weights {begun!r}, which changes the base weights"
        hint = "save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA"
        raise InputError(message, hint=hint)
    if fields.get("bias", "none") not in _BIASES:
        raise _unexpected(path, "bias", fields["bias"], f"one of {', '.join(_BIASES)}")
    for name, value in fields.items():
        if value and name not in (*_READ, *_WITHOUT_EFFECT):
            message = f"{path} has {name} {shown(value)}; neuronc merges plain LoRA only"
            raise InputError(message, hint="merge it with PEFT, and pass the merged checkpoint")


def _rank(path: Path, name: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_RANK:
        raise _unexpected(path, name, value, "a positive int")
    return value


def _alpha(path: Path, name: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an int beyond every float
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise _unexpected(path, name, value, "a number")
    return number


def _flag(path: Path, fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name) or False
    if value is not True and value is not False:
        raise _unexpected(path, name, value, "true or false")
    return value


def _patterns(path: Path, fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name) or {}
    if not isinstance(value, dict):
        raise _unexpected(path, name, value, "an object from module to number")
    for pattern in value:
        try:
            re.compile(pattern)
            re.compile(_whole(pattern))  # flags may stand at the beginning alone
        except (re.error, OverflowError, RecursionError) as error:
            raise _unexpected(path, name, pattern, f"a regular expression ({error})") from error
        if _is_endless(pattern):
            expected = f"at most {_MAX_REPEATS} repetitions, none of a group"
            raise _unexpected(path, name, pattern, expected)
    return value


def _is_endless(pattern: str) -> bool:
    """Whether matching it could take for ever."""
    plain = re.sub(r"\\.|\[\^?\]?[^]]*\]", "x", pattern, flags=re.DOTALL)
    repeats = re.findall(r".?[*+{]", plain, flags=re.DOTALL)
    return len(repeats) > _MAX_REPEATS or any(found[0] == ")" for found in repeats)


def _unexpected(path: Path, name: str, value: object, expected: str) -> InputError:
    message = f"{path} has {name} {shown(value)}; expected {expected}"
    return InputError(message, hint="use the file that PEFT wrote")
