"""Modules that take the place of a transformers model's own on one of several ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from neuronc.trace.collectives import all_gather, all_reduce
from neuronc.trace.context import current_program, current_rank


class InOutLinear(nn.Module):
    """A linear layer whose weight is ``[in, out]``."""

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``."""
        product = torch.matmul(x, self.weight)
        return product if self.bias is None else product + self.bias


class RowParallelLinear(nn.Module):
    """Input dim split: the ranks' partial products are summed, then the bias is added once."""

    def __init__(self, linear: Any, *, in_out: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.in_out = linear.weight, linear.bias, in_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in / tp]`` to ``[..., out]``."""
        if self.in_out:
            total: torch.Tensor = all_reduce(torch.matmul(x, self.weight))
        else:
            total = all_reduce(nn.functional.linear(x, self.weight))
        return total if self.bias is None else total + self.bias


class GatheredLinear(nn.Module):
    """Output dim split: every rank computes a part, and gets the others' parts."""

    def __init__(self, linear: Any, *, tp: int, out_features: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.tp, self.out_features = tp, out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` to ``[..., out]``."""
        whole: torch.Tensor = all_gather(nn.functional.linear(x, self.weight, self.bias), self.tp)
        return whole[..., : self.out_features]


class Head(nn.Module):
    """The LM head: each rank computes its part of the vocabulary, the parts are gathered.

    A program that wants one token's logits only (prefill) computes only those.
    """

    def __init__(self, linear: Any, *, tp: int, vocab_size: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.tp, self.vocab_size = tp, vocab_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, S, hidden]`` to ``[N, S or 1, vocab]`` on every rank."""
        last = current_program().last
        if last is not None:
            x = torch.index_select(x, 1, last)
        part = nn.functional.linear(x, self.weight, self.bias)
        return part if self.tp == 1 else all_gather(part, self.tp)[..., : self.vocab_size]


class VocabParallelEmbedding(nn.Module):
    """Each rank looks up the tokens in its rows; the others give zeros, and a sum joins them.

    Mixed into a family's own embedding class (see `split_vocab`), which may do more than look up:
    gemma's scales the rows.
    """

    vocab_per_rank: int

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """``[N, S]`` token ids to ``[N, S, hidden]``."""
        local = token_ids - current_rank() * self.vocab_per_rank
        mine = (local >= 0) & (local < self.vocab_per_rank)
        rows = super().forward(local.clamp(0, self.vocab_per_rank - 1))
        masked = torch.where(mine[..., None], rows, torch.zeros_like(rows))
        total: torch.Tensor = all_reduce(masked)
        return total


def split_vocab(embedding: nn.Embedding, *, vocab_per_rank: int) -> None:
    """Let ``embedding``, whose table is one rank's rows, look up tokens of the whole vocabulary."""
    own = type(embedding)
    embedding.__class__ = type(f"VocabParallel{own.__name__}", (VocabParallelEmbedding, own), {})
    embedding.vocab_per_rank = vocab_per_rank  # type: ignore[assignment]


class WideNorm(nn.Module):
    """A family's norm over all heads together, whose input is split by heads.

    The heads of all ranks are gathered, the family's own norm runs on them, and the rank takes its
    part: one all-gather of the projection. Mixed into the family's own norm class (see
    `widen_norm`), which holds its whole weight.
    """

    ranks: Sequence[Sequence[int | None]]
    num_heads: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., heads of the rank * head_dim]`` to the same."""
        slots = [head for rank in self.ranks for head in rank]
        gathered = all_gather(x, len(self.ranks))
        heads = gathered.unflatten(-1, (len(slots), gathered.shape[-1] // len(slots)))
        order = torch.tensor([slots.index(head) for head in range(self.num_heads)])
        whole = super().forward(torch.index_select(heads, -2, order).flatten(-2))
        # An empty slot gets head 0's numbers: whatever it computes meets zero weights.
        table = torch.tensor([[head or 0 for head in rank] for rank in self.ranks])
        mine = torch.index_select(table, 0, current_rank())[0]
        heads = whole.unflatten(-1, (self.num_heads, whole.shape[-1] // self.num_heads))
        return torch.index_select(heads, -2, mine).flatten(-2)


def widen_norm(norm: Any, ranks: Sequence[Sequence[int | None]], num_heads: int) -> None:
    """Let ``norm`` take one rank's heads; ``ranks`` has, per rank, the head in each slot."""
    own = type(norm)
    norm.__class__ = type(f"Wide{own.__name__}", (WideNorm, own), {})
    norm.ranks, norm.num_heads = ranks, num_heads
