"""OLMo 2: norms after attention and MLP, and one over all query heads and all KV heads together."""

from neuronc.families.family import Family, Fields
from neuronc.families.parts import ATTENTION, gated_mlp


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/olmo2/modeling_olmo2.py``."""
    return Family(
        splits={
            **ATTENTION,
            **gated_mlp(),
        },
        wide_norms={"layers.*.self_attn.q_norm": "query", "layers.*.self_attn.k_norm": "kv"},
    )
