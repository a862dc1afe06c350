"""Falcon: rotary or ALiBi positions; query, key and value fused in one of three orders."""

from typing import Any

from neuronc.families.family import Family, Fields, Split, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/falcon/modeling_falcon.py``.

    The new decoder (40b) has KV groups, the old one a single KV head (7b) or one a query head (rw).
    """
    is_new = bool(fields.get("new_decoder_architecture", default=False))
    is_multi_query = not is_new and bool(fields.get("multi_query", default=True))
    has_alibi = bool(fields.get("alibi", default=False))
    hidden, heads = fields.size("hidden_size"), "num_attention_heads"
    fused: Split = columns("query", "kv", "kv", order="parts" if is_multi_query else "heads")
    return Family(
        splits={
            "h.*.self_attention.query_key_value": fused,
            "h.*.self_attention.dense": rows("query"),
            "h.*.mlp.dense_h_to_4h": columns("feature"),
            "h.*.mlp.dense_4h_to_h": rows("feature"),
        },
        whole={"ln_f.weight": (hidden,), "ln_f.bias": (hidden,)},
        counts={
            "h.*.self_attention.num_heads": "query_heads",
            "h.*.self_attention.num_kv_heads": "kv_heads",
        },
        sizes={
            "num_key_value_heads": "num_kv_heads" if is_new else 1 if is_multi_query else heads,
            "intermediate_size": fields.size("ffn_hidden_size", default=4 * hidden),
        },
        base_prefix="transformer.",
        adapt=_own_alibi if has_alibi else None,
        padding_mask=has_alibi,
        # transformers 5.23's eager attention adds ALiBi twice: once more with the mask.
        reference_attention="sdpa" if has_alibi else "eager",
    )


def _own_alibi(model: Any, heads: Any) -> None:
    """The model makes ALiBi for all heads, ``[batch, heads, 1, keys]``; a layer wants its own."""
    from neuronc.trace.masks import mask_plainly

    for block in model.transformer.h:
        heads.select_input(block.self_attention, "alibi", dim=1)
        mask_plainly(block.self_attention)
