"""GPT-2: learned positions, query, key and value in one Conv1D, whose weights are ``[in, out]``."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/gpt2/modeling_gpt2.py``."""
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "h.*.attn.c_attn": columns("query", "kv", "kv"),
            "h.*.attn.c_proj": rows("query"),
            "h.*.mlp.c_fc": columns("feature"),
            "h.*.mlp.c_proj": rows("feature"),
        },
        whole={
            "wpe.weight": (fields.size("max_position_embeddings"), hidden),
            "ln_f.weight": (hidden,),
            "ln_f.bias": (hidden,),
        },
        counts={"h.*.attn.num_heads": "query_heads", "h.*.attn.split_size": "query_width"},
        sizes={
            "intermediate_size": fields.size("n_inner", default=4 * hidden),
            "num_key_value_heads": "num_attention_heads",
        },
        base_prefix="transformer.",
        in_out=True,
    )
