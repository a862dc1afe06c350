"""Qwen3-MoE: routed experts, norms on each head; some layers have a plain MLP."""

from neuronc.families.family import WHOLE, Family, Fields, Split
from neuronc.families.parts import ATTENTION, experts, gated_mlp, stacked_experts


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/qwen3_moe/modeling_qwen3_moe.py``."""
    return Family(
        splits={
            **ATTENTION,
            "layers.*.self_attn.q_norm": Split(style="whole", is_norm=True),
            "layers.*.self_attn.k_norm": Split(style="whole", is_norm=True),
            **gated_mlp(optional=True),
            **experts(),
            "layers.*.mlp.gate": WHOLE,
        },
        sums=("layers.*.mlp",),
        stacked=stacked_experts(),
    )
