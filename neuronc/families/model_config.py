"""config.json narrowed, once, to the fields neuronc uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.errors import InputError
from neuronc.families.transformers_source import FamilySource, read_family_source


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The sizes that planning, tracing and the runtime need.

    Attributes:
        model_type: transformers' name of the family.
        max_positions: Longest sequence the model was made for, or None where it does not say.
        eos_token_ids: Tokens that end a text.
        raw: The whole config.json, for building the transformers model.
        tp_plan: The family's own plan: module pattern to split style.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int | None
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]
    raw: Mapping[str, Any]
    tp_plan: Mapping[str, str]


def read_model_config(raw: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Narrow ``raw`` (a parsed config.json of ``source``).

    Raises:
        InputError: unknown model type, or a size is missing or not a positive integer.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        message = f"config of {source} has no model_type"
        raise InputError(message, hint="use a checkpoint saved by transformers")
    family = read_family_source(model_type)
    fields = _Fields(raw, family, source)
    heads = fields.size("num_attention_heads")
    return ModelConfig(
        model_type=model_type,
        hidden_size=fields.size("hidden_size"),
        num_layers=fields.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=fields.size("num_key_value_heads", default=heads),
        head_dim=fields.size("head_dim", default=fields.size("hidden_size") // heads),
        vocab_size=fields.size("vocab_size"),
        max_positions=fields.optional_size("max_position_embeddings"),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", default=False)),
        eos_token_ids=_eos_ids(raw),
        raw=raw,
        tp_plan=family.tp_plan,
    )


class _Fields:
    """Looks a field up in config.json, then its alias there, then the class default."""

    def __init__(self, raw: Mapping[str, Any], family: FamilySource, source: str) -> None:
        self.raw, self.family, self.source = raw, family, source
        self.aliases: Mapping[str, str] = family.defaults.get("attribute_map") or {}

    def get(self, name: str, *, default: Any = None) -> Any:
        for key in (name, self.aliases.get(name, name)):
            if self.raw.get(key) is not None:
                return self.raw[key]
        for key in (name, self.aliases.get(name, name)):
            if self.family.defaults.get(key) is not None:
                return self.family.defaults[key]
        return default

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.get(name, default=default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            message = (
                f"config of {self.source}: expected {name} to be a positive int, found {value!r}"
            )
            raise InputError(message, hint="repair config.json or use another checkpoint")
        return value

    def optional_size(self, name: str) -> int | None:
        return self.size(name) if self.get(name) is not None else None


def _eos_ids(raw: Mapping[str, Any]) -> tuple[int, ...]:
    eos = raw.get("eos_token_id")
    if eos is None:
        return ()
    return tuple(eos) if isinstance(eos, list) else (int(eos),)
