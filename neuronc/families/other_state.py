"""Families that keep something else of a sequence than keys and values, which neuronc refuses."""

OTHER_STATE = frozenset(
    [
        "bailing_hybrid",
        "bamba",
        "falcon_h1",
        "falcon_mamba",
        "inkling2_text",
        "inkling_text",
        "jamba",
        "kimi_linear",
        "lfm3",
        "mamba",
        "mamba2",
        "minimax",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "recurrent_gemma",
        "rwkv",
        "xlstm",
        "zamba",
        "zamba2",
        "zaya",
    ]
)
"""State-space, recurrent and linear-attention layers: in every model of these families."""
