"""config.json narrowed, once, to the fields neuronc uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.errors import InputError
from neuronc.families.own_plan import OwnPlan
from neuronc.families.own_plans import OWN_PLANS
from neuronc.families.transformers_source import FamilySource, read_family_source


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The sizes that planning, tracing and the runtime need.

    Attributes:
        model_type: transformers' name of the family.
        embedding_size: Width of the embedding table and of the LM head; mostly ``hidden_size``.
        intermediate_size: Features inside the MLP, or None where it is not one number.
        max_positions: Longest sequence the model was made for, or None where it does not say.
        attention_window: Keys that a query of a sliding-window layer sees; None if all.
        eos_token_ids: Tokens that end a text.
        raw: The whole config.json, for building the transformers model.
        tp_plan: The family's plan, transformers' or ours: module pattern to split style.
        own_plan: What goes with a plan of ours; None where transformers has one.
    """

    model_type: str
    hidden_size: int
    embedding_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int | None
    vocab_size: int
    max_positions: int | None
    attention_window: int | None
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]
    raw: Mapping[str, Any]
    tp_plan: Mapping[str, str]
    own_plan: OwnPlan | None


def read_model_config(raw: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Narrow ``raw`` (a parsed config.json of ``source``).

    Raises:
        InputError: unknown model type, a size is missing or not a positive integer, or the KV
            heads do not share the query heads evenly.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        message = f"config of {source} has no model_type"
        raise InputError(message, hint="use a checkpoint saved by transformers")
    family = read_family_source(model_type)
    own = None if family.tp_plan else OWN_PLANS.get(model_type)
    names = {"embedding_size": "hidden_size", **(own.size_fields if own else {})}
    fields = _Fields(raw, family, names, source)
    heads, kv_heads = fields.heads()
    hidden_size = fields.size("hidden_size")
    return ModelConfig(
        model_type=model_type,
        hidden_size=hidden_size,
        embedding_size=fields.size("embedding_size", default=hidden_size),
        num_layers=fields.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=fields.size("head_dim", default=hidden_size // heads),
        intermediate_size=fields.optional_size("intermediate_size"),
        vocab_size=fields.size("vocab_size"),
        max_positions=fields.optional_size("max_position_embeddings"),
        attention_window=fields.attention_window(),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", default=False)),
        eos_token_ids=fields.token_ids("eos_token_id"),
        raw=raw,
        tp_plan=own.tp_plan if own else family.tp_plan,
        own_plan=own,
    )


class _Fields:
    """Looks a field up in config.json, then its alias there, then the class default.

    ``names`` has the fields that config.json calls otherwise than we do.
    As in transformers, a null in config.json is not the class default: it asks for ``default``.
    """

    def __init__(
        self, raw: Mapping[str, Any], family: FamilySource, names: Mapping[str, str], source: str
    ) -> None:
        self.raw, self.family, self.names, self.source = raw, family, names, source
        self.aliases: Mapping[str, str] = family.defaults.get("attribute_map") or {}

    def get(self, name: str, *, default: Any = None) -> Any:
        name = self.names.get(name, name)
        for place in (self.raw, self.family.defaults):
            for key in (name, self.aliases.get(name, name)):
                if key in place:
                    return default if place[key] is None else place[key]
        return default

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.get(name, default=default)
        if type(value) is not int or value < 1:
            raise self._unexpected(self.names.get(name, name), value, "a positive int")
        return value

    def optional_size(self, name: str) -> int | None:
        value = self.get(name)
        if isinstance(value, list | tuple) or value in (None, -1):  # per layer; without limit
            return None
        return self.size(name)

    def attention_window(self) -> int | None:
        switched_off = self.get("use_sliding_window", default=True) is False
        return None if switched_off else self.optional_size("sliding_window")

    def heads(self) -> tuple[int, int]:
        heads, kv_name = self.size("num_attention_heads"), "num_key_value_heads"
        kv_heads = self.size(kv_name, default=heads)
        if heads % kv_heads:
            expected = f"a divisor of num_attention_heads={heads}"
            raise self._unexpected(kv_name, kv_heads, expected)
        return heads, kv_heads

    def token_ids(self, name: str) -> tuple[int, ...]:
        value = self.get(name, default=[])
        ids = tuple(value) if isinstance(value, list) else (value,)
        if not all(type(token) is int for token in ids):
            raise self._unexpected(name, value, "an int or a list of ints")
        return ids

    def _unexpected(self, name: str, value: object, expected: str) -> InputError:
        message = f"config of {self.source}: expected {name} to be {expected}, found {value!r}"
        return InputError(message, hint="repair config.json or use another checkpoint")
