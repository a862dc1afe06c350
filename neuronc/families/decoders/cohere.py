"""Command R: attention and MLP side by side; some have a norm with weights for every head."""

from neuronc.families.family import Family, Fields, Part, columns
from neuronc.families.parts import ATTENTION, gated_mlp


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/cohere/modeling_cohere.py``."""
    head_norms = {
        "layers.*.self_attn.q_norm": columns(Part(unit="query", width=1), dim=0),
        "layers.*.self_attn.k_norm": columns(Part(unit="kv", width=1), dim=0),
    }
    return Family(
        splits={
            **ATTENTION,
            **gated_mlp(),
            **(head_norms if fields.get("use_qk_norm", default=False) else {}),
        },
    )
