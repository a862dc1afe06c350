"""ALBERT: one group of weights for all layers, embeddings narrower than the hidden state."""

from neuronc.families.family import WHOLE, Family, Fields, columns, rows

_LAYER = "encoder.albert_layer_groups.*.albert_layers.*"


def family(fields: Fields) -> Family:
    width = fields.size("embedding_size")
    positions = fields.size("max_position_embeddings")
    segments = fields.size("type_vocab_size")
    hidden = fields.size("hidden_size")
    return Family(
        splits={
            f"{_LAYER}.attention.query": columns("query"),
            f"{_LAYER}.attention.key": columns("kv"),
            f"{_LAYER}.attention.value": columns("kv"),
            f"{_LAYER}.attention.dense": rows("query"),
            f"{_LAYER}.attention.LayerNorm": WHOLE,
            f"{_LAYER}.full_layer_layer_norm": WHOLE,
            f"{_LAYER}.ffn": columns("feature"),
            f"{_LAYER}.ffn_output": rows("feature"),
        },
        whole={
            "embeddings.position_embeddings.weight": (positions, width),
            "embeddings.token_type_embeddings.weight": (segments, width),
            "embeddings.LayerNorm.weight": (width,),
            "embeddings.LayerNorm.bias": (width,),
            "encoder.embedding_hidden_mapping_in.weight": (hidden, width),
            "encoder.embedding_hidden_mapping_in.bias": (hidden,),
        },
        sizes={"embedding_size": "embedding_size"},
        renamed={"albert.": ""},
        unused=(
            "embeddings.position_ids",
            "pooler.",
            "predictions.",
            "sop_classifier.",
            "classifier.",
            "qa_outputs.",
        ),
    )
