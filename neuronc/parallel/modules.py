"""What the parts of a decoder are made of, as far as their split is understood.

A family's own plan says ``colwise`` or ``rowwise``, but not whether the rows are heads or plain
features. Cutting a fused projection evenly would be silently wrong, so only the modules listed
here are ever split, and a family whose plan names others is refused.
"""

import re
from collections.abc import Mapping

from neuronc.families.model_config import ModelConfig
from neuronc.families.own_plan import Unit

UNITS: Mapping[str, Unit] = {
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "kv",
    "self_attn.v_proj": "kv",
    "self_attn.o_proj": "query",
    "self_attn.dense": "query",
    "mlp.gate_proj": "feature",
    "mlp.up_proj": "feature",
    "mlp.down_proj": "feature",
    "mlp.fc1": "feature",
    "mlp.fc2": "feature",
    "mlp.c_fc": "feature",
    "mlp.c_proj": "feature",
}
STYLES = ("colwise", "rowwise", "replicated_with_grad_allreduce")
"""The split styles of transformers' plans that neuronc applies."""

EMBEDDING = re.compile(r"(?:.*\.)?embed_tokens\.weight")
HEAD = re.compile(r"lm_head\.(?:weight|bias)")
NORM = re.compile(r"(?:.*\.)?\w*norm\w*\.(?:weight|bias)")

_IRREGULAR: Mapping[str, str] = {
    "apertus": "its activation has parameters of its own",
    "gemma3n_text": "it mixes in tensors of its own between the layers",
    "gemma4_unified_text": "its layers have heads of different sizes",
}
"""Families that hold more than their plan tells."""

_ATTENTION = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}


def module_of(pattern: str) -> str:
    """A module's name in its layer: ``mlp.up_proj`` of ``layers.*.mlp.up_proj``."""
    last = pattern.split(".")[-2:]
    return ".".join(part for part in last if part != "*" and not part.isdecimal())


def units(config: ModelConfig) -> Mapping[str, Unit]:
    """What the split dim of each module counts, by its name in the layer."""
    own = config.own_plan.linears if config.own_plan else {}
    return {**UNITS, **{module_of(pattern): unit for pattern, (_, unit) in own.items()}}


def replicated(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    """Parameters that a plan of ours has on every rank: name without prefix, and shape."""
    return config.own_plan.replicated(config) if config.own_plan else {}


def is_parameter(name: str, known: str) -> bool:
    """Whether ``name`` is parameter ``known``, with or without the base model's prefix."""
    return name == known or name.endswith(f".{known}")


def why_not_splittable(config: ModelConfig) -> str:
    """What keeps the family from being split over ranks; empty for one that can be."""
    family = f"family {config.model_type!r}"
    if config.model_type in _IRREGULAR:
        return f"{family} cannot be split yet: {_IRREGULAR[config.model_type]}"
    if not config.tp_plan:
        return f"{family} has no tensor-parallel plan in transformers that can be read"
    for pattern, style in config.tp_plan.items():
        if style not in STYLES:
            return f"{family} wants split style {style!r} for {pattern}; known are {STYLES}"
        if style != "replicated_with_grad_allreduce" and module_of(pattern) not in units(config):
            return f"{family} wants {pattern} split; neuronc does not know what its rows are"
    if not {module_of(pattern) for pattern in config.tp_plan} >= _ATTENTION:
        return f"the plan of {family} leaves out the attention projections"
    return ""


def expected_shape(config: ModelConfig, name: str, style: str) -> tuple[int, ...] | None:
    """The shape that ``config`` gives parameter ``name`` of a splittable family, if it tells.

    Norms inside attention have no one answer: most work on a head, some on all heads.
    """
    is_bias = name.endswith(".bias")
    if style in ("embedding", "head"):
        return (config.vocab_size,) if is_bias else (config.vocab_size, config.embedding_size)
    if style == "replicated":
        return next(s for known, s in replicated(config).items() if is_parameter(name, known))
    if style == "norm":
        return None if ".self_attn." in name else (config.hidden_size,)
    if style not in ("colwise", "rowwise") or (size := _unit_count(config, name)) is None:
        return None
    if style == "rowwise":
        return (config.hidden_size,) if is_bias else (config.hidden_size, size)
    return (size,) if is_bias else (size, config.hidden_size)


def _unit_count(config: ModelConfig, name: str) -> int | None:
    """Size of the split dim of parameter ``name``; None where config.json does not say."""
    unit = units(config)[module_of(name.rpartition(".")[0])]
    if unit == "feature":
        return config.intermediate_size
    heads = config.num_heads if unit == "query" else config.num_kv_heads
    return heads * config.head_dim
