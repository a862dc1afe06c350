"""GPT-J: rotary positions, attention and MLP side by side, an LM head with a bias."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/gptj/modeling_gptj.py``."""
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "h.*.attn.q_proj": columns("query"),
            "h.*.attn.k_proj": columns("kv"),
            "h.*.attn.v_proj": columns("kv"),
            "h.*.attn.out_proj": rows("query"),
            "h.*.mlp.fc_in": columns("feature"),
            "h.*.mlp.fc_out": rows("feature"),
        },
        whole={"ln_f.weight": (hidden,), "ln_f.bias": (hidden,)},
        counts={"h.*.attn.num_attention_heads": "query_heads"},
        sizes={
            "intermediate_size": fields.size("n_inner", default=4 * hidden),
            "num_key_value_heads": "num_attention_heads",
        },
        base_prefix="transformer.",
    )
