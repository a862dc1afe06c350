"""StableLM: a rotary embedding on part of the head; some have a norm for every head."""

from neuronc.families.family import Family, Fields
from neuronc.families.parts import ATTENTION, gated_mlp


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/stablelm/modeling_stablelm.py``."""
    has_norms = bool(fields.get("qk_layernorm", default=False))
    return Family(
        splits={
            **ATTENTION,
            **gated_mlp(),
        },
        counts={
            "layers.*.self_attn.num_heads": "query_heads",
            "layers.*.self_attn.num_key_value_heads": "kv_heads",
            "layers.*.self_attn.hidden_size": "query_width",
        },
        why_not="family 'stablelm' with qk_layernorm has a norm for every head"
        if has_norms
        else "",
    )
