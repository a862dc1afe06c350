"""Phi-3: query, key and value in one projection, gate and up in another."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/phi3/modeling_phi3.py``."""
    return Family(
        splits={
            "layers.*.self_attn.qkv_proj": columns("query", "kv", "kv"),
            "layers.*.self_attn.o_proj": rows("query"),
            "layers.*.mlp.gate_up_proj": columns("feature", "feature"),
            "layers.*.mlp.down_proj": rows("feature"),
        },
        counts={
            "layers.*.self_attn.num_key_value_heads": "kv_heads",
            "layers.*.self_attn.config.num_attention_heads": "query_heads",
        },
    )
