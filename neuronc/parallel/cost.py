"""What padding and replication cost: parameters stored and FLOPs spent beyond the model's own."""

import re
from dataclasses import dataclass
from math import prod

from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.rules import ParamRule

CONTEXT = 2048
"""Positions that a token attends to, where FLOPs are counted."""
_IN_A_LAYER = re.compile(r"\.\d+\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddingCost:
    """Totals over all ranks against the model on one rank.

    Attributes:
        extra_q_heads: Empty query slots.
        extra_kv_heads: Empty or replicated KV slots.
        model_params: Parameters in the checkpoint.
        split_params: Parameters over all ranks, replicated and padded ones counted each time.
        flops_ratio: Matrix-multiply FLOPs per token over all ranks, divided by the model's own;
            see `padding_cost`.
    """

    extra_q_heads: int
    extra_kv_heads: int
    model_params: int
    split_params: int
    flops_ratio: float

    @property
    def extra_params_percent(self) -> float:
        """Parameters over all ranks beyond the model's own."""
        return 100 * (self.split_params / self.model_params - 1)

    @property
    def extra_flops_percent(self) -> float:
        """Matrix-multiply FLOPs over all ranks beyond the model's own."""
        return 100 * (self.flops_ratio - 1)


def padding_cost(plan: ParallelPlan, config: ModelConfig) -> PaddingCost:
    """Count ``plan`` of the model of ``config``.

    FLOPs are those of one token: 2 per weight of every matrix in the layers, whole ones on each
    rank and all experts (as prefill runs them) included, and of the LM head, which may be the
    embedding table again; and 4 per query head, element of a head and position of the context, of
    which `CONTEXT` are taken, or as many as the model was made for.
    """
    rules = plan.rules.values()
    matrices = [rule for rule in rules if _is_multiplied(rule, plan)]
    context = min(CONTEXT, config.max_positions or CONTEXT)
    per_head = 4 * config.head_dim * context * config.num_layers
    own = sum(2 * prod(r.shape) for r in matrices) + per_head * config.num_heads
    of_rank = sum(2 * prod(r.rank_shape) for r in matrices) + per_head * plan.heads.q_per_rank
    return PaddingCost(
        extra_q_heads=plan.heads.extra_q_heads,
        extra_kv_heads=plan.heads.extra_kv_heads,
        model_params=sum(prod(r.shape) for r in rules),
        split_params=sum(prod(r.rank_shape) * plan.tp for r in rules),
        flops_ratio=of_rank * plan.tp / own,
    )


def _is_multiplied(rule: ParamRule, plan: ParallelPlan) -> bool:
    """Whether ``rule`` is of a matrix that every token is multiplied with."""
    if len(rule.shape) not in (2, 3):
        return False
    if rule.role in ("vocab_head", "vocab_embedding"):
        is_tied = not any(other.role == "vocab_head" for other in plan.rules.values())
        return rule.role == "vocab_head" or is_tied
    # Outside the layers, what every rank holds whole are tables: positions, token types.
    return rule.role != "replicate" or _IN_A_LAYER.search(rule.name) is not None
