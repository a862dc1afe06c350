"""What padding and replication cost: parameters stored and FLOPs spent beyond the model's own."""

from dataclasses import dataclass
from math import prod

from neuronc.parallel.plan import ParallelPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddingCost:
    """Totals over all ranks against the model on one rank.

    Attributes:
        extra_q_heads: Empty query slots.
        extra_kv_heads: Empty or replicated KV slots.
        model_params: Parameters in the checkpoint.
        split_params: Parameters over all ranks, replicated and padded ones counted each time.
        flops_ratio: Matrix-multiply FLOPs per token over all ranks, divided by the model's own.
    """

    extra_q_heads: int
    extra_kv_heads: int
    model_params: int
    split_params: int
    flops_ratio: float


def padding_cost(plan: ParallelPlan) -> PaddingCost:
    """Count ``plan``. FLOPs are 2 per weight of every linear layer; attention itself grows with
    the query heads in the same proportion as their projections."""
    rules = plan.rules.values()
    matrices = [r for r in rules if r.role in ("column", "row", "vocab_head")]
    own = sum(prod(r.shape) for r in matrices)
    split = sum(prod(r.rank_shape) * plan.tp for r in matrices)
    return PaddingCost(
        extra_q_heads=plan.heads.extra_q_heads,
        extra_kv_heads=plan.heads.extra_kv_heads,
        model_params=sum(prod(r.shape) for r in rules),
        split_params=sum(prod(r.rank_shape) * plan.tp for r in rules),
        flops_ratio=split / own if own else 1.0,
    )
