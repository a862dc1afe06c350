"""Configs and parameter shapes of decoders, without making a model."""

from typing import Any

from neuronc.families.model_config import ModelConfig, read_model_config

SMOLLM2 = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def make_config(**fields: Any) -> ModelConfig:
    """The config of SmolLM2-135M with ``fields`` changed."""
    return read_model_config({**SMOLLM2, **fields}, source="test")


def decoder_shapes(
    config: ModelConfig, *, bias: tuple[str, ...] = (), norms: tuple[str, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Parameters of a llama-like decoder; ``bias`` names linears, ``norms`` more norms per layer."""
    hidden, features = config.hidden_size, config.intermediate_size or 0
    query, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    linears = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (features, hidden),
        "mlp.up_proj": (features, hidden),
        "mlp.down_proj": (hidden, features),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.{name}.weight": shape for name, shape in linears.items()}
        shapes |= {f"{prefix}.{name}.bias": linears[name][:1] for name in bias}
        for name in ("input_layernorm", "post_attention_layernorm", *norms):
            width = config.head_dim if "self_attn" in name else hidden
            shapes[f"{prefix}.{name}.weight"] = (width,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes
