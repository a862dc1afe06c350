"""Mixture-of-experts layers, registered with transformers under our own name.

A few tokens (decode) read the weights of the experts that were picked and no others; many tokens
(prefill) pass through all experts, which costs more arithmetic but reads each weight once.
"""

from typing import Any

import torch
from torch import nn

from neuronc.trace.context import current_rank

EXPERTS = "neuronc"

# T tokens, K experts picked for each, E experts on this rank, H hidden, F features (2F with gate)


def experts_of_rank(
    module: Any, hidden_TH: torch.Tensor, index_TK: torch.Tensor, weights_TK: torch.Tensor
) -> torch.Tensor:
    """What this rank's experts, or its features of all experts, add to ``[T, H]``.

    The sum over the ranks is up to the caller. Where ranks hold whole experts, a token's pick that
    lives elsewhere counts nothing.

    Args:
        module: transformers' experts module; its weights are the rank's.
        hidden_TH: ``[T, H]``.
        index_TK: ``[T, K]`` experts picked, of all experts.
        weights_TK: ``[T, K]`` how much each counts.
    """
    num_here = module.down_proj.shape[0]
    weights_TK = weights_TK.to(hidden_TH.dtype)
    if num_here < module.num_experts:
        index_TK = index_TK - current_rank() * num_here
        is_here = (index_TK >= 0) & (index_TK < num_here)
        weights_TK = torch.where(is_here, weights_TK, torch.zeros_like(weights_TK))
        index_TK = index_TK.clamp(0, num_here - 1)
    if index_TK.numel() <= num_here:
        return _picked(module, hidden_TH, index_TK, weights_TK)
    return _all(module, hidden_TH, index_TK, weights_TK)


def _picked(
    module: Any, hidden_TH: torch.Tensor, index_TK: torch.Tensor, weights_TK: torch.Tensor
) -> torch.Tensor:
    tokens, num_picked = index_TK.shape
    picked = index_TK.reshape(-1)
    x = hidden_TH[:, None].expand(-1, num_picked, -1).reshape(tokens * num_picked, 1, -1)
    out = _mlp(module, x, lambda parameter: torch.index_select(parameter, 0, picked))[:, 0]
    weighted = _weighted(out, weights_TK.reshape(-1, 1))
    return weighted.reshape(tokens, num_picked, -1).sum(1)


def _all(
    module: Any, hidden_TH: torch.Tensor, index_TK: torch.Tensor, weights_TK: torch.Tensor
) -> torch.Tensor:
    num_here = module.down_proj.shape[0]
    out_ETH = _mlp(module, hidden_TH[None].expand(num_here, -1, -1), lambda parameter: parameter)
    numbers = torch.arange(num_here, dtype=index_TK.dtype)
    is_picked_TKE = index_TK[:, :, None] == numbers
    zero = torch.zeros((), dtype=weights_TK.dtype)
    share_TE = torch.where(is_picked_TKE, weights_TK[:, :, None], zero).sum(1)
    return _weighted(out_ETH, share_TE.transpose(0, 1)[:, :, None]).sum(0)


def _weighted(out: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """``out * share``, and zero where ``share`` is: an expert that nobody picked may overflow."""
    return torch.where(share == 0, torch.zeros((), dtype=out.dtype), out * share)


def _mlp(module: Any, x: torch.Tensor, select: Any) -> torch.Tensor:
    """``[experts, tokens, H]`` to the same, each through its own expert."""
    first = "gate_up_proj" if module.has_gate else "up_proj"
    features = _linear(module, x, first, select)
    features = module._apply_gate(features) if module.has_gate else module.act_fn(features)
    out = _linear(module, features, "down_proj", select)
    normed: torch.Tensor = module.post_expert_norm(out) if module.has_post_expert_norm else out
    return normed


def _linear(module: Any, x: torch.Tensor, name: str, select: Any) -> torch.Tensor:
    weight: torch.Tensor = select(getattr(module, name))
    out = torch.matmul(x, weight if module.is_transposed else weight.transpose(1, 2))
    if not module.has_bias:
        return out
    bias: torch.Tensor = select(getattr(module, f"{name}_bias"))[:, None]
    if name == "down_proj" and module.splits_features:  # to be added once, not by every rank
        bias = torch.where(current_rank() == 0, bias, torch.zeros_like(bias))
    return out + bias


def use_own_experts(model: nn.Module, *, tp: int) -> None:
    """Let ``model``'s experts modules, if it has any, run `experts_of_rank`."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(EXPERTS, experts_of_rank)
    for module in model.modules():
        if hasattr(module, "has_gate") and hasattr(module, "down_proj"):
            experts: Any = module
            experts.config._experts_implementation_internal = EXPERTS
            experts.splits_features = tp > 1 and experts.down_proj.shape[0] == experts.num_experts
