"""OLMoE: routed experts, and a norm over all query heads and one over all KV heads together."""

from neuronc.families.family import WHOLE, Family, Fields
from neuronc.families.parts import ATTENTION, experts, stacked_experts


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/olmoe/modeling_olmoe.py``."""
    return Family(
        splits={**ATTENTION, **experts(), "layers.*.mlp.gate": WHOLE},
        wide_norms={"layers.*.self_attn.q_norm": "query", "layers.*.self_attn.k_norm": "kv"},
        sums=("layers.*.mlp",),
        stacked=stacked_experts(),
    )
