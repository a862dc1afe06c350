"""GPT-NeoX and Pythia: rotary positions; each head's query, key and value rows lie together."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:  # noqa: ARG001
    """Names are those of transformers' ``models/gpt_neox/modeling_gpt_neox.py``."""
    return Family(
        splits={
            "layers.*.attention.query_key_value": columns("query", "kv", "kv", order="heads"),
            "layers.*.attention.dense": rows("query"),
            "layers.*.mlp.dense_h_to_4h": columns("feature"),
            "layers.*.mlp.dense_4h_to_h": rows("feature"),
        },
        sizes={"num_key_value_heads": "num_attention_heads"},
        base_prefix="gpt_neox.",
        renamed={"embed_out.": "lm_head."},
    )
