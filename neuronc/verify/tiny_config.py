"""A tiny config of the same kind: every switch of a model kept, every size small.

Fields are told by their names, which families share; a size that is nobody's here stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

NUM_LAYERS = 2
MAX_POSITIONS = 64
_HEADS = 4

# name -> the largest value it keeps
_LARGEST: tuple[tuple[str, int], ...] = (
    (r"(num_)?(decoder_|encoder_)?(attention_)?heads|n_heads?|num_decoder_attention_heads", _HEADS),
    (r"hidden_size|d_model|n_embd|embed_dim|model_dim|dim_model|dim|embedding_size", 64),
    (r"word_embed_proj_dim|lru_width|attention_hidden_size|input_dim|hidden_dim", 64),
    (r"(\w+_)?(head_dim|dim_head|kv_channels|d_kv|d_head)|rotary_dim", 16),
    (r"qk_nope_head_dim|qk_rope_head_dim", 8),
    (r"\w*(lora|latent)_(rank|dim)|\w*_lora_rank", 16),
    (r"(\w+_)?intermediate_size|(\w+_)?ffn_dim|n_inner|d_ff|dff|ffn_hidden_size|dim_ff", 96),
    (r"(\w+_)?vocab_size(_\w+)?", 128),
    (r"(num_)?(hidden_|decoder_|encoder_)?layers|n_layers?", NUM_LAYERS),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_sequence_length", MAX_POSITIONS),
    (r"max_target_positions|seq_length|original_max_position_embeddings", MAX_POSITIONS),
    (r"sliding_window|attention_window|window_size|attention_chunk_size|local_attention", 8),
    (r"(num|n)_(local_|routed_)?experts|moe_num_experts", 4),
    (
        r"num_experts_per_tok(en)?|moe_top_?k|top_k_experts|num_selected_experts|experts_per_token|moe_k",
        2,
    ),
    (r"n_group|topk_group|num_expert_group|first_k_dense_replace", 1),
    (r"\w*token_id|\w*token_index", 3),
)
_RULES = tuple((re.compile(pattern), largest) for pattern, largest in _LARGEST)
_KV_HEADS = re.compile(r"(\w+_)?(num_)?(key_value|kv)_heads|n_head_kv|multi_query_group_num")


def tiny_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` (a config.json) with small sizes.

    KV heads stay fewer than query heads where they were; lists with an entry per layer keep one of
    each kind. Rotary settings stay, but for the length they begin to change at.
    """
    tiny = {name: _field(name, value, config) for name, value in config.items()}
    return {name: value for name, value in tiny.items() if name not in ("id2label", "label2id")}


def _field(name: str, value: Any, config: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return tiny_config(value)
    if isinstance(value, list | tuple):
        return _per_layer(value, config)
    if type(value) is not int or value < 1:
        return value
    if _KV_HEADS.fullmatch(name):
        return _kv_heads(value, config)
    for pattern, largest in _RULES:
        if pattern.fullmatch(name):
            return min(value, largest)
    return value


def _kv_heads(value: int, config: Mapping[str, Any]) -> int:
    pattern = _RULES[0][0]
    heads = [n for name, n in config.items() if pattern.fullmatch(name) and type(n) is int]
    if value == 1 or not heads:
        return min(value, _HEADS)
    return _HEADS if value >= max(heads) else _HEADS // 2


def _per_layer(values: Sequence[Any], config: Mapping[str, Any]) -> Any:
    """One of each kind of a list that has an entry per layer."""
    counts = [
        n for name, n in config.items() if re.fullmatch(r"(num_)?(hidden_)?layers|n_layers?", name)
    ]
    if len(values) not in counts or len(values) <= NUM_LAYERS:
        return values
    kinds: list[Any] = []
    for value in values:
        if value not in kinds:
            kinds.append(value)
    return [*kinds, *values][:NUM_LAYERS]
