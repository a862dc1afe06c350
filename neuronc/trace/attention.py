"""Attention over the slot cache, registered with transformers under our own name.

Query heads that share a KV head are kept together as a dim of the matrix multiply, so the cache
is read once and never repeated, and the cache layout needs no transpose.
"""

from typing import Any

import torch

ATTENTION = "neuronc"

# N sequences, K kv heads, G query heads per kv head, S query tokens, L keys, D head dim


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention with f32 softmax, as transformers' eager attention computes it.

    Args:
        module: The attention module.
        query: ``[N, K*G, S, D]``.
        key: ``[N, K, L, D]``.
        value: ``[N, K, L, V]``; V may differ from D.
        attention_mask: ``[N, 1, S, L]``, added to the scores.
        scaling: Factor on the scores; ``D**-0.5`` if None.
        softcap: ``c`` in ``c * tanh(scores / c)``, applied before the mask.
        s_aux: ``[K*G]`` attention sinks: a score that takes its share and gives no value.
        kwargs: ``dropout`` (ignored: inference) and whatever else a family passes along.

    Returns:
        ``[N, S, K*G, V]`` and None in place of the attention weights.
    """
    n, heads, s, d = query.shape
    kv_heads = key.shape[1]
    grouped = query.reshape(n, kv_heads, heads // kv_heads * s, d)
    scores = torch.matmul(grouped, key.transpose(2, 3)) * (d**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.reshape(n, heads, s, key.shape[2]) + attention_mask
    if s_aux is not None:
        scores = torch.cat([scores, s_aux.reshape(1, -1, 1, 1).expand(n, -1, s, 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = weights if s_aux is None else weights[..., :-1]
    mixed = torch.matmul(weights.reshape(n, kv_heads, -1, key.shape[2]), value)
    return mixed.reshape(n, heads, s, -1).transpose(1, 2).contiguous(), None


def register_attention() -> None:
    """Make ``attn_implementation='neuronc'`` known to transformers; safe to call again."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, grouped_attention)
