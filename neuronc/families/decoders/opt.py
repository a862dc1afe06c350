"""OPT: learned positions, biases everywhere, and in opt-350m an embedding narrower than the model."""

from neuronc.families.family import Family, Fields, columns, rows

_POSITION_OFFSET = 2  # the first two rows of the table stood for padding in fairseq


def family(fields: Fields) -> Family:
    """Names and shapes are those of transformers' ``models/opt/modeling_opt.py``."""
    return Family(
        splits={
            "decoder.layers.*.self_attn.q_proj": columns("query"),
            "decoder.layers.*.self_attn.k_proj": columns("kv"),
            "decoder.layers.*.self_attn.v_proj": columns("kv"),
            "decoder.layers.*.self_attn.out_proj": rows("query"),
            "decoder.layers.*.fc1": columns("feature"),
            "decoder.layers.*.fc2": rows("feature"),
        },
        whole=_whole(fields),
        counts={"decoder.layers.*.self_attn.num_heads": "query_heads"},
        sizes={
            "intermediate_size": "ffn_dim",
            "embedding_size": "word_embed_proj_dim",
            "num_key_value_heads": "num_attention_heads",
        },
        base_prefix="model.",
    )


def _whole(fields: Fields) -> dict[str, tuple[int, ...]]:
    hidden = fields.size("hidden_size")
    embedding = fields.size("word_embed_proj_dim", default=hidden)
    rows_ = fields.size("max_position_embeddings") + _POSITION_OFFSET
    shapes: dict[str, tuple[int, ...]] = {"decoder.embed_positions.weight": (rows_, hidden)}
    if embedding != hidden:
        shapes["decoder.project_in.weight"] = (hidden, embedding)
        shapes["decoder.project_out.weight"] = (embedding, hidden)
    if _has_final_norm(fields):
        shapes["decoder.final_layer_norm.weight"] = (hidden,)
        shapes["decoder.final_layer_norm.bias"] = (hidden,)
    return shapes


def _has_final_norm(fields: Fields) -> bool:
    """Models with the norm after attention (opt-350m) have none, nor have some old fine-tunes."""
    removed = fields.get("_remove_final_layer_norm", default=False)
    kept = fields.get("do_layer_norm_before", default=True) and not removed
    return bool(kept and fields.get("layer_norm_elementwise_affine", default=True))
