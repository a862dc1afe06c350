"""A family's splits as transformers' own tensor-parallel plan has them.

That plan says ``colwise`` or ``rowwise``, but not whether the rows are heads or plain features.
Cutting a fused projection evenly would be silently wrong, so only the modules listed here are
split, and a family whose plan names others needs a file of its own.
"""

from collections.abc import Mapping

from neuronc.families.family import Family, Split, Unit, columns, rows
from neuronc.families.transformers_source import FamilySource

_UNITS: Mapping[str, Unit] = {
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
_STYLES = ("colwise", "rowwise", "replicated_with_grad_allreduce")
_ATTENTION = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
_IRREGULAR: Mapping[str, str] = {
    "apertus": "its activation has parameters of its own",
    "gemma3n_text": "it mixes in tensors of its own between the layers",
    "gemma4_unified_text": "its layers have heads of different sizes",
}
"""Families that hold more than their plan tells."""

AFTER_PADDING = ("data2vec-text", "roberta-prelayernorm", "xlm-roberta-xl")
"""Families whose first position has the number after the padding token's."""


def derive_family(source: FamilySource) -> Family:
    """The family as its configuration class describes it; ``why_not`` where that is not enough."""
    why_not = _why_not(source)
    if why_not:
        return Family(why_not=why_not)
    return Family(splits={p: _split(p, style) for p, style in source.tp_plan.items()})


def module_of(pattern: str) -> str:
    """A module's name in its layer: ``mlp.up_proj`` of ``layers.*.mlp.up_proj``."""
    last = pattern.split(".")[-2:]
    return ".".join(part for part in last if part != "*" and not part.isdecimal())


def _split(pattern: str, style: str) -> Split:
    if style == "replicated_with_grad_allreduce":
        return Split(style="whole", is_norm=True)
    unit = _UNITS[module_of(pattern)]
    return columns(unit) if style == "colwise" else rows(unit)


def _why_not(source: FamilySource) -> str:
    family = f"family {source.model_type!r}"
    if source.model_type in _IRREGULAR:
        return f"{family} cannot be split yet: {_IRREGULAR[source.model_type]}"
    if not source.tp_plan:
        return f"{family} has no tensor-parallel plan in transformers that can be read"
    for pattern, style in source.tp_plan.items():
        if style not in _STYLES:
            return f"{family} wants split style {style!r} for {pattern}; known are {_STYLES}"
        if style != "replicated_with_grad_allreduce" and module_of(pattern) not in _UNITS:
            return f"{family} wants {pattern} split; neuronc does not know what its rows are"
    if not {module_of(pattern) for pattern in source.tp_plan} >= _ATTENTION:
        return f"the plan of {family} leaves out the attention projections"
    return ""
