"""DistilBERT: BERT with half the layers and no segments."""

from neuronc.families.family import Family, Fields, columns, rows


def family(fields: Fields) -> Family:
    hidden = fields.size("dim")
    positions = fields.size("max_position_embeddings")
    return Family(
        splits={
            "transformer.layer.*.attention.q_lin": columns("query"),
            "transformer.layer.*.attention.k_lin": columns("kv"),
            "transformer.layer.*.attention.v_lin": columns("kv"),
            "transformer.layer.*.attention.out_lin": rows("query"),
            "transformer.layer.*.ffn.lin1": columns("feature"),
            "transformer.layer.*.ffn.lin2": rows("feature"),
        },
        whole={
            "embeddings.position_embeddings.weight": (positions, hidden),
            "embeddings.LayerNorm.weight": (hidden,),
            "embeddings.LayerNorm.bias": (hidden,),
        },
        sizes={"intermediate_size": "hidden_dim"},
        renamed={"distilbert.": ""},
        unused=(
            "embeddings.position_ids",
            "vocab_",
            "pre_classifier.",
            "classifier.",
            "qa_outputs.",
        ),
    )
