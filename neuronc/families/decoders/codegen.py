"""CodeGen: GPT-J with query, value and key fused, in four runs of heads for four TPU cores."""

from neuronc.families.family import Family, Fields, columns, rows

_RUNS = 4


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/codegen/modeling_codegen.py``.

    The order inside a run is query, value, key; its attention always cuts its heads into 4 runs.
    """
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "h.*.attn.qkv_proj": columns("query", "kv", "kv", chunks=_RUNS),
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
        heads_multiple=_RUNS,
    )
