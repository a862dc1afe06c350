"""ModernBERT: rotary positions, a gated MLP, windows in most layers; all inputs of a layer fused."""

from dataclasses import replace

from neuronc.families.family import WHOLE, Family, Fields, columns, rows


def family(fields: Fields) -> Family:  # noqa: ARG001
    return Family(
        splits={
            "layers.*.attn.Wqkv": columns("query", "kv", "kv"),
            "layers.*.attn.Wo": rows("query"),
            "layers.*.attn_norm": replace(WHOLE, optional=True),  # the first layer has none
            "layers.*.mlp.Wi": columns("feature", "feature"),
            "layers.*.mlp.Wo": rows("feature"),
        },
        renamed={"model.": ""},
        unused=("head.", "decoder.", "classifier."),
    )
