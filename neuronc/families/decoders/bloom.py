"""BLOOM: ALiBi positions, a norm after the embedding; each head's query, key, value rows together."""

from typing import Any

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/bloom/modeling_bloom.py``."""
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "h.*.self_attention.query_key_value": columns("query", "kv", "kv", order="heads"),
            "h.*.self_attention.dense": rows("query"),
            "h.*.mlp.dense_h_to_4h": columns("feature"),
            "h.*.mlp.dense_4h_to_h": rows("feature"),
        },
        whole={
            "word_embeddings_layernorm.weight": (hidden,),
            "word_embeddings_layernorm.bias": (hidden,),
            "ln_f.weight": (hidden,),
            "ln_f.bias": (hidden,),
        },
        counts={"h.*.self_attention.num_heads": "query_heads"},
        sizes={"intermediate_size": 4 * hidden, "num_key_value_heads": "num_attention_heads"},
        base_prefix="transformer.",
        adapt=_own_alibi,
    )


def _own_alibi(model: Any, heads: Any) -> None:
    """The model makes ALiBi for all heads, ``[batch * heads, 1, keys]``; a layer wants its own."""
    for block in model.transformer.h:
        heads.select_input(block.self_attention, "alibi", dim=0)
