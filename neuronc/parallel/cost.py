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

    @property
    def extra_params_percent(self) -> float:
        """Parameters over all ranks beyond the model's own."""
        return 100 * (self.split_params / self.model_params - 1)

    @property
    def extra_flops_percent(self) -> float:
        """Matrix-multiply FLOPs over all ranks beyond the model's own."""
        return 100 * (self.flops_ratio - 1)


def padding_cost(plan: ParallelPlan) -> PaddingCost:
    """Count ``plan``.

    FLOPs are 2 per weight of every linear layer and of the LM head, which may be the embedding
    table again; attention itself grows with its query heads as their projections do.
    """
    rules = plan.rules.values()
    is_tied = not any(r.role == "vocab_head" for r in rules)
    roles = {"column", "row", "vocab_embedding" if is_tied else "vocab_head"}
    matrices = [r for r in rules if r.role in roles and len(r.shape) == 2]
    own = sum(prod(r.shape) for r in matrices)
    split = sum(prod(r.rank_shape) * plan.tp for r in matrices)
    return PaddingCost(
        extra_q_heads=plan.heads.extra_q_heads,
        extra_kv_heads=plan.heads.extra_kv_heads,
        model_params=sum(prod(r.shape) for r in rules),
        split_params=sum(prod(r.rank_shape) * plan.tp for r in rules),
        flops_ratio=split / own if own else 1.0,
    )
