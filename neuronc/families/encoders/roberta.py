"""RoBERTa: BERT whose first position has the number after the padding token's."""

from dataclasses import replace

from neuronc.families.encoders import bert
from neuronc.families.family import Family, Fields


def family(fields: Fields) -> Family:
    first = fields.size("pad_token_id") + 1
    return replace(
        bert.family(fields),
        sizes={"max_position_embeddings": fields.size("max_position_embeddings") - first},
        renamed={"roberta.": ""},
        unused=("embeddings.position_ids", "pooler.", "lm_head.", "classifier.", "qa_outputs."),
        first_position=first,
    )
