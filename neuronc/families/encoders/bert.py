"""BERT: learned positions, a norm after each block, two types of segments."""

from neuronc.families.family import WHOLE, Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    hidden = fields.size("hidden_size")
    positions = fields.size("max_position_embeddings")
    segments = fields.size("type_vocab_size")
    return Family(
        splits={
            "encoder.layer.*.attention.self.query": columns("query"),
            "encoder.layer.*.attention.self.key": columns("kv"),
            "encoder.layer.*.attention.self.value": columns("kv"),
            "encoder.layer.*.attention.output.dense": rows("query"),
            "encoder.layer.*.attention.output.LayerNorm": WHOLE,
            "encoder.layer.*.intermediate.dense": columns("feature"),
            "encoder.layer.*.output.dense": rows("feature"),
            "encoder.layer.*.output.LayerNorm": WHOLE,
        },
        whole={
            "embeddings.position_embeddings.weight": (positions, hidden),
            "embeddings.token_type_embeddings.weight": (segments, hidden),
            "embeddings.LayerNorm.weight": (hidden,),
            "embeddings.LayerNorm.bias": (hidden,),
        },
        renamed={
            "bert.": "",
            "LayerNorm.gamma": "LayerNorm.weight",
            "LayerNorm.beta": "LayerNorm.bias",
        },
        unused=("embeddings.position_ids", "pooler.", "cls.", "classifier.", "qa_outputs."),
    )
