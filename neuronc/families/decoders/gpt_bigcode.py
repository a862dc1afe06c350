"""GPT-BigCode (SantaCoder, StarCoder): GPT-2 whose query heads may share one KV head."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/gpt_bigcode/modeling_gpt_bigcode.py``."""
    hidden = fields.size("hidden_size")
    multi_query = bool(fields.get("multi_query", default=True))
    fused = columns("query", "kv", "kv", order="parts" if multi_query else "heads")
    return Family(
        splits={
            "h.*.attn.c_attn": fused,
            "h.*.attn.c_proj": rows("query"),
            "h.*.mlp.c_fc": columns("feature"),
            "h.*.mlp.c_proj": rows("feature"),
        },
        whole={
            "wpe.weight": (fields.size("max_position_embeddings"), hidden),
            "ln_f.weight": (hidden,),
            "ln_f.bias": (hidden,),
        },
        counts={
            "h.*.attn.num_heads": "query_heads",
            "h.*.attn.kv_heads": "kv_heads",
            "h.*.attn.embed_dim": "query_width",
            "h.*.attn.kv_dim": "kv_width",
        },
        sizes={
            "intermediate_size": fields.size("n_inner", default=4 * hidden),
            "num_key_value_heads": 1 if multi_query else "num_attention_heads",
        },
        base_prefix="transformer.",
    )
