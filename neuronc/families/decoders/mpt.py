"""MPT: ALiBi positions; query, key and value in one projection, one after the other."""

from typing import Any

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    """Names are those of transformers' ``models/mpt/modeling_mpt.py``."""
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            "blocks.*.attn.Wqkv": columns("query", "kv", "kv"),
            "blocks.*.attn.out_proj": rows("query"),
            "blocks.*.ffn.up_proj": columns("feature"),
            "blocks.*.ffn.down_proj": rows("feature"),
        },
        whole={"norm_f.weight": (hidden,)},
        counts={"blocks.*.attn.n_heads": "query_heads"},
        sizes={
            "intermediate_size": hidden * fields.size("expansion_ratio", default=4),
            "num_key_value_heads": "num_attention_heads",
            "max_position_embeddings": "max_seq_len",
        },
        base_prefix="transformer.",
        adapt=_own_alibi,
    )


def _own_alibi(model: Any, heads: Any) -> None:
    """The model makes ALiBi for all heads, ``[heads, 1, keys]``; a layer wants its own."""
    for block in model.transformer.blocks:
        heads.select_input(block.attn, "position_bias", dim=0)
