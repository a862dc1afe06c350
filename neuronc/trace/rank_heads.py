"""Which heads are a rank's own, for code that holds something for every head of the model."""

from typing import Any

import torch
from torch import nn

from neuronc.parallel.heads import HeadLayout
from neuronc.trace.context import current_rank


class RankHeads:
    """The query heads of a rank, chosen by the rank's number while the program runs."""

    def __init__(self, heads: HeadLayout) -> None:
        self.heads = heads

    def select(self, whole: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's part of ``whole``, whose ``dim`` is heads or ``batch * heads``.

        An empty slot gets head 0's: whatever it computes meets zero weights.
        """
        if len(self.heads.q_ranks) == 1:
            return whole
        num_heads = self.heads.num_heads
        table = torch.tensor([[head or 0 for head in rank] for rank in self.heads.q_ranks])
        mine = torch.index_select(table, 0, current_rank())[0]
        shape = whole.shape
        split = whole.reshape(*shape[:dim], shape[dim] // num_heads, num_heads, *shape[dim + 1 :])
        return torch.index_select(split, dim + 1, mine).flatten(dim, dim + 1)

    def select_input(self, module: nn.Module, name: str, *, dim: int) -> None:
        """Let ``module`` be called with this rank's part of its keyword argument ``name``."""
        if len(self.heads.q_ranks) == 1:
            return

        def hook(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            return args, {**kwargs, name: self.select(kwargs[name], dim)}

        module.register_forward_pre_hook(hook, with_kwargs=True)
