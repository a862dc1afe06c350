"""config.json narrowed, once, to the fields neuronc uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.errors import InputError
from neuronc.families.embedding import Embedding, read_embedding
from neuronc.families.family import Family
from neuronc.families.find import encoder_types, find_family
from neuronc.families.other_state import OTHER_STATE
from neuronc.families.transformers_source import (
    FamilySource,
    masked_model_types,
    read_family_source,
)

_MAX_HEADS = 65536
"""More would be laid out over the ranks for hours; no model has a hundredth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The sizes that planning, tracing and the runtime need.

    Attributes:
        model_type: transformers' name of the family.
        embedding_size: Width of the embedding table and of the LM head; mostly ``hidden_size``.
        intermediate_size: Features inside the MLP, or None where it is not one number.
        max_positions: Longest sequence the model was made for, or None where it does not say.
        fixed_rope_positions: Longest sequence whose rotary frequencies do not change with its
            length; None where none do.
        eos_token_ids: Tokens that end a text.
        raw: The whole config.json, for building the transformers model.
        family: How its parameters are split, from a file of ours or transformers' plan.
        embedding: What an encoder makes of its outputs; None for a decoder.
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
    fixed_rope_positions: int | None
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]
    raw: Mapping[str, Any]
    family: Family
    embedding: Embedding | None = None


def read_model_config(raw: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Narrow ``raw`` (a parsed config.json of ``source``).

    Raises:
        InputError: no decoder with a KV cache, multimodal, unknown model type, a size is missing or
            not a positive integer, or the KV heads do not share the query heads evenly.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        message = f"config of {source} has no model_type"
        raise InputError(message, hint="use a checkpoint saved by transformers")
    family_source = read_family_source(model_type)
    bare, embedding = _Fields(raw, family_source, {}, source), read_embedding(raw, source=source)
    _check_kind(bare, model_type, source, embeds=embedding is not None)
    family = find_family(family_source, bare, embeds=embedding is not None)
    names = {"embedding_size": "hidden_size", **family.sizes}
    fields = _Fields(raw, family_source, names, source)
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
        fixed_rope_positions=fields.fixed_rope_positions(),
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", default=False)),
        eos_token_ids=fields.token_ids("eos_token_id"),
        raw=raw,
        family=family,
        embedding=embedding,
    )


def is_encoder(raw: Mapping[str, Any]) -> bool:
    """Whether config.json ``raw`` is an encoder's, described or not."""
    model_type = str(raw.get("model_type"))
    if model_type in encoder_types():
        return raw.get("is_decoder") is not True
    fields = _Fields(raw, read_family_source(model_type), {}, "")
    return fields.get("is_decoder") is False and model_type in masked_model_types()


def _check_kind(fields: "_Fields", model_type: str, source: str, *, embeds: bool) -> None:
    """Encoders embed, decoders generate; transformers makes a causal LM of others, too."""
    has_heads = fields.get("num_attention_heads") is not None
    if fields.get("is_encoder_decoder") is True:
        message = f"{source} is an encoder-decoder ({model_type}); neuronc compiles decoders"
        hint = "for one core of inf2, pass --tracer torch-neuronx"
    elif (embeds or is_encoder(fields.raw)) and model_type not in encoder_types():
        message = f"{source} is none of the encoders that neuronc knows ({model_type})"
        hint = f"those are {', '.join(encoder_types())}; for others --tracer torch-neuronx"
    elif is_encoder(fields.raw) and not embeds:
        message = f"{source} is an encoder ({model_type}); it cannot generate"
        hint = "pass --task embed"
    elif model_type in OTHER_STATE:
        message = f"{source} ({model_type}) keeps other state of a sequence than keys and values"
        hint = "neuronc compiles decoders with a KV cache; `neuronc models` lists those it knows"
    elif isinstance(text := fields.raw.get("text_config"), Mapping) and not has_heads:
        message = f"{source} is multimodal ({model_type}); neuronc compiles text models"
        hint = f"save its text model ({text.get('model_type', 'text_config')}) as a checkpoint"
    else:
        return
    raise InputError(message, hint=hint)


class _Fields:
    """Looks a field up in config.json, then its alias there, then the class default.

    ``names`` has the fields that config.json calls otherwise than we do, or whose value is known.
    As in transformers, a null in config.json is not the class default: it asks for ``default``.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        family: FamilySource,
        names: Mapping[str, str | int],
        source: str,
    ) -> None:
        self.raw, self.family, self.names, self.source = raw, family, names, source
        self.aliases: Mapping[str, str] = family.defaults.get("attribute_map") or {}

    def get(self, name: str, *, default: Any = None) -> Any:
        known = self.names.get(name, name)
        if isinstance(known, int):
            return known
        name = known
        for place in (self.raw, self.family.defaults):
            for key in (name, self.aliases.get(name, name)):
                if key in place:
                    return default if place[key] is None else place[key]
        return default

    def size(self, name: str, *, default: int | None = None) -> int:
        value = self.get(name, default=default)
        if type(value) is not int or value < 1:
            raise self._unexpected(str(self.names.get(name, name)), value, "a positive int")
        return value

    def optional_size(self, name: str) -> int | None:
        value = self.get(name)
        if isinstance(value, list | tuple) or value in (None, -1):  # per layer; without limit
            return None
        return self.size(name)

    def fixed_rope_positions(self) -> int | None:
        rope = self.get("rope_parameters") or self.get("rope_scaling")
        if not isinstance(rope, dict):
            return None
        kinds = (
            rope,
            *(kind for kind in rope.values() if isinstance(kind, dict)),
        )  # per layer type
        return min((n for n in map(self._fixed_positions, kinds) if n is not None), default=None)

    def _fixed_positions(self, rope: Mapping[str, Any]) -> int | None:
        kind, before = rope.get("rope_type", rope.get("type")), "original_max_position_embeddings"
        if kind not in ("dynamic", "longrope", "su"):
            return None
        if kind != "dynamic" and type(rope.get(before)) is int:
            return int(rope[before])
        own = None if kind == "dynamic" else self.optional_size(before)
        return own or self.optional_size("max_position_embeddings")

    def heads(self) -> tuple[int, int]:
        name, kv_name = "num_attention_heads", "num_key_value_heads"
        heads = self.size(name)
        if heads > _MAX_HEADS:
            raise self._unexpected(name, heads, f"at most {_MAX_HEADS}")
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
