"""MPNet: BERT without segments, and a bias on the scores for each head and distance."""

from typing import Any

from neuronc.families.family import WHOLE, Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    hidden, first = fields.size("hidden_size"), fields.size("pad_token_id") + 1
    positions = fields.size("max_position_embeddings")
    buckets = fields.size("relative_attention_num_buckets")
    return Family(
        splits={
            "encoder.layer.*.attention.attn.q": columns("query"),
            "encoder.layer.*.attention.attn.k": columns("kv"),
            "encoder.layer.*.attention.attn.v": columns("kv"),
            "encoder.layer.*.attention.attn.o": rows("query"),
            "encoder.layer.*.attention.LayerNorm": WHOLE,
            "encoder.layer.*.intermediate.dense": columns("feature"),
            "encoder.layer.*.output.dense": rows("feature"),
            "encoder.layer.*.output.LayerNorm": WHOLE,
        },
        whole={
            "embeddings.position_embeddings.weight": (positions, hidden),
            "embeddings.LayerNorm.weight": (hidden,),
            "embeddings.LayerNorm.bias": (hidden,),
            "encoder.relative_attention_bias.weight": (
                buckets,
                fields.size("num_attention_heads"),
            ),
        },
        counts={"attn.all_head_size": "query_width"},
        sizes={"max_position_embeddings": positions - first},
        renamed={"mpnet.": ""},
        unused=("embeddings.position_ids", "pooler.", "lm_head.", "classifier.", "qa_outputs."),
        first_position=first,
        adapt=_bias_of_own_heads,
    )


def _bias_of_own_heads(model: Any, heads: Any) -> None:
    """``[S, S, heads]`` of the model to those of the rank."""
    bias = model.encoder.relative_attention_bias
    bias.register_forward_hook(lambda _module, _inputs, output: heads.select(output, 2))
