"""Qwen2-MoE: routed experts, and one that every token passes; some layers have a plain MLP."""

from neuronc.families.family import WHOLE, Family, Fields
from neuronc.families.parts import ATTENTION, experts, gated_mlp, stacked_experts


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/qwen2_moe/modeling_qwen2_moe.py``."""
    shared = fields.size("shared_expert_intermediate_size")
    return Family(
        splits={
            **ATTENTION,
            **gated_mlp(optional=True),
            **experts(),
            **gated_mlp("layers.*.mlp.shared_expert", features=shared, partial=True),
            "layers.*.mlp.gate": WHOLE,
            "layers.*.mlp.shared_expert_gate": WHOLE,
        },
        sums=("layers.*.mlp",),
        stacked=stacked_experts(),
    )
