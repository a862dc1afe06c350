"""GPT-Neo: learned positions; every other layer sees a window of the last tokens only."""

from typing import Any

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/gpt_neo/modeling_gpt_neo.py``."""
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "h.*.attn.attention.q_proj": columns("query"),
            "h.*.attn.attention.k_proj": columns("kv"),
            "h.*.attn.attention.v_proj": columns("kv"),
            "h.*.attn.attention.out_proj": rows("query"),
            "h.*.mlp.c_fc": columns("feature"),
            "h.*.mlp.c_proj": rows("feature"),
        },
        whole={
            "wpe.weight": (fields.size("max_position_embeddings"), hidden),
            "ln_f.weight": (hidden,),
            "ln_f.bias": (hidden,),
        },
        counts={"h.*.attn.attention.num_heads": "query_heads"},
        sizes={
            "intermediate_size": fields.size("intermediate_size", default=4 * hidden),
            "num_key_value_heads": "num_attention_heads",
        },
        base_prefix="transformer.",
        adapt=_see_by_position,
    )


def _see_by_position(model: Any, heads: Any) -> None:  # noqa: ARG001
    """Its causal mask is a table cut by the number of tokens so far; ours goes by position."""
    from neuronc.trace.masks import MaskByPosition

    for block in model.transformer.h:
        attention = block.attn.attention
        is_local = attention.attention_type == "local"
        del attention.bias
        attention.bias = MaskByPosition(attention.config.window_size if is_local else None)
