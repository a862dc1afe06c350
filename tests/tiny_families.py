"""A tiny config of every family that neuronc names, and of their variants."""

import warnings
from typing import Any

from neuronc.families.model_config import read_model_config

_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_COMMON: dict[str, Any] = {
    "hidden_size": 36,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 8,
    "intermediate_size": 50,
    "num_hidden_layers": 2,
    "vocab_size": 61,
    "max_position_embeddings": 64,
    **_IDS,
}
"""No size is a multiple of 4, so that every tp beyond 2 pads."""

_MULTI_HEAD = {**_COMMON, "hidden_size": 48, "num_key_value_heads": 6}
_NO_HEAD_DIM = {
    k: v for k, v in _MULTI_HEAD.items() if k not in ("head_dim", "num_key_value_heads")
}
_GROUPED = {**_NO_HEAD_DIM, "num_key_value_heads": 3}


def _old(**names: str) -> dict[str, Any]:
    """Sizes of a model that calls some of them otherwise."""
    own = {names.get(k, k): v for k, v in _NO_HEAD_DIM.items()}
    return {k: v for k, v in own.items() if k != "None"}


_GPT2 = _old(
    hidden_size="n_embd",
    num_attention_heads="n_head",
    num_hidden_layers="n_layer",
    max_position_embeddings="n_positions",
    intermediate_size="n_inner",
)


def _rope(kind: str, **fields: Any) -> dict[str, Any]:
    return {**_COMMON, "rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **fields}}


_HALF = [1.0 + 0.25 * i for i in range(4)]

_LATENT = {
    "num_key_value_heads": 6,
    **_NO_HEAD_DIM,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 18,
    "first_k_dense_replace": 1,
}

TINY_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _COMMON),
    "llama, linear rope": ("llama", _rope("linear", factor=2.0)),
    "llama, dynamic rope": ("llama", _rope("dynamic", factor=2.0)),
    "llama, yarn rope": (
        "llama",
        _rope("yarn", factor=2.0, original_max_position_embeddings=32),
    ),
    "llama, longrope": (
        "llama",
        _rope(
            "longrope",
            factor=2.0,
            short_factor=_HALF,
            long_factor=_HALF[::-1],
            original_max_position_embeddings=32,
        ),
    ),
    "llama, llama3 rope": (
        "llama",
        _rope(
            "llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama, biases": ("llama", {**_COMMON, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", {**_COMMON, "sliding_window": 5}),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", _COMMON),
    "gemma": ("gemma", {**_COMMON, "num_key_value_heads": 1}),
    "gemma2": ("gemma2", {**_COMMON, "sliding_window": 5, "query_pre_attn_scalar": 16}),
    "gemma3_text": ("gemma3_text", {**_COMMON, "sliding_window": 5, "sliding_window_pattern": 2}),
    "phi": ("phi", {**_MULTI_HEAD, "partial_rotary_factor": 0.5}),
    "phi, norms": ("phi", {**_MULTI_HEAD, "qk_layernorm": True}),
    "phi3": ("phi3", _GROUPED),
    "phi3, longrope": (
        "phi3",
        {
            **_GROUPED,
            "original_max_position_embeddings": 32,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": _HALF,
                "long_factor": _HALF[::-1],
            },
        },
    ),
    "opt": ("opt", _old(intermediate_size="ffn_dim")),
    "opt, as 350m": (
        "opt",
        {
            **_old(intermediate_size="ffn_dim"),
            "word_embed_proj_dim": 20,
            "do_layer_norm_before": False,
        },
    ),
    "gpt2": ("gpt2", _GPT2),
    "gpt_neo": (
        "gpt_neo",
        {
            **_old(num_attention_heads="num_heads", num_hidden_layers="num_layers"),
            "attention_types": [[["global", "local"], 1]],
            "window_size": 5,
        },
    ),
    "gptj": ("gptj", {**_GPT2, "rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", _NO_HEAD_DIM),
    "gpt_bigcode": ("gpt_bigcode", _GPT2),
    "gpt_bigcode, multi-head": ("gpt_bigcode", {**_GPT2, "multi_query": False}),
    "bloom": ("bloom", _old(num_attention_heads="n_head", num_hidden_layers="n_layer")),
    "falcon, one KV head": ("falcon", {**_NO_HEAD_DIM, "bias": False}),
    "falcon, new decoder": (
        "falcon",
        {**_NO_HEAD_DIM, "new_decoder_architecture": True, "num_kv_heads": 3},
    ),
    "falcon, ALiBi": (
        "falcon",
        {
            **_NO_HEAD_DIM,
            "alibi": True,
            "multi_query": False,
            "parallel_attn": False,
            "bias": True,
        },
    ),
    "mpt": (
        "mpt",
        {
            **_old(
                hidden_size="d_model",
                num_attention_heads="n_heads",
                num_hidden_layers="n_layers",
                max_position_embeddings="max_seq_len",
            ),
        },
    ),
    "codegen": ("codegen", {**_GPT2, "n_head": 8, "rotary_dim": 4}),
    "stablelm": ("stablelm", {**_GROUPED, "partial_rotary_factor": 0.5}),
    "olmo": ("olmo", {**_GROUPED, "clip_qkv": 1.0}),
    "olmo2": ("olmo2", _GROUPED),
    "olmo3": ("olmo3", {**_GROUPED, "sliding_window": 5}),
    "granite": (
        "granite",
        {**_GROUPED, "embedding_multiplier": 2.0, "attention_multiplier": 0.3},
    ),
    "smollm3": ("smollm3", {**_GROUPED, "no_rope_layers": [1, 0]}),
    "starcoder2": ("starcoder2", {**_GROUPED, "sliding_window": 5}),
    "cohere": ("cohere", _GROUPED),
    "cohere, head norms": ("cohere", {**_GROUPED, "use_qk_norm": True}),
    "cohere2": ("cohere2", {**_GROUPED, "sliding_window": 5, "sliding_window_pattern": 2}),
    "mixtral": ("mixtral", {**_COMMON, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "qwen2_moe",
        {
            **_GROUPED,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 18,
            "shared_expert_intermediate_size": 22,
            "mlp_only_layers": [0],
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        {**_COMMON, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 18},
    ),
    "olmoe": ("olmoe", {**_GROUPED, "num_experts": 8, "num_experts_per_tok": 3}),
    "gpt_oss": (
        "gpt_oss",
        {**_COMMON, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 5},
    ),
    "deepseek_v2": (
        "deepseek_v2",
        {
            **_LATENT,
            "q_lora_rank": None,
            "n_group": 2,
            "topk_group": 1,
            "topk_method": "group_limited_greedy",
        },
    ),
    "deepseek_v3": ("deepseek_v3", {**_LATENT, "q_lora_rank": 20, "n_group": 2, "topk_group": 1}),
}
"""Variant to model type and config fields."""

RANKS_TP = (1, 2, 3, 4, 5, 6, 7, 8)
COMPILED_TP = (1, 2, 4)
"""tp degrees that ranks are checked at by torch alone, and compiled."""


def random_model(variant: str) -> Any:
    """The causal LM of ``variant``, seeded, with the attention that is the reference for it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, fields = TINY_FAMILIES[variant]
    generator = torch.Generator().manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(model_type, **fields)
        family = read_model_config(config.to_dict(), source=model_type).family
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation=family.reference_attention,
            experts_implementation="eager",
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = "norm" in name or ".ln_" in name
            parameter.copy_(noise * 0.1 + 1.0 if is_scale else noise * 0.3)
    return model.eval()


_ENCODER: dict[str, Any] = {**_NO_HEAD_DIM, "type_vocab_size": 2, "pad_token_id": 1}

TINY_ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", _ENCODER),
    "roberta": ("roberta", _ENCODER),
    "xlm-roberta": ("xlm-roberta", _ENCODER),
    "camembert": ("camembert", _ENCODER),
    "distilbert": (
        "distilbert",
        _old(
            hidden_size="dim",
            num_attention_heads="n_heads",
            num_hidden_layers="n_layers",
            intermediate_size="hidden_dim",
        ),
    ),
    "albert": ("albert", {**_ENCODER, "embedding_size": 20, "num_hidden_groups": 1}),
    "mpnet": ("mpnet", _ENCODER),
    "modernbert": (
        "modernbert",
        {
            **_NO_HEAD_DIM,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
}
"""As `TINY_FAMILIES`, for encoders."""


def random_encoder(variant: str) -> Any:
    """The encoder of ``variant``, seeded, with eager attention and without a pooler."""
    import torch

    from neuronc.trace.meta_model import build_model

    generator = torch.Generator().manual_seed(7)
    config = encoder_config(variant)
    model = build_model(config, dtype=torch.float32, attention="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.1 + 1.0 if "norm" in name.lower() else noise * 0.3)
    return model


def encoder_config(variant: str, *, pooling: str = "mean", normalize: bool = True) -> Any:
    """config.json of ``variant``, told how to embed."""
    from transformers import AutoConfig

    from neuronc.families.embedding import Embedding, with_embedding

    model_type, fields = TINY_ENCODERS[variant]
    how = Embedding(pooling=pooling, normalize=normalize)  # type: ignore[arg-type]
    return with_embedding(AutoConfig.for_model(model_type, **fields).to_dict(), how)
