"""One rank's model: the transformers model on the meta device, its linears cut to the rank's size.

Every rank runs this same module; only the weights given to it differ.
"""

import re
from typing import Any

import torch
from torch import nn

from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.trace.attention import ATTENTION, register_attention
from neuronc.trace.collectives import all_gather, all_reduce
from neuronc.trace.meta_model import build_meta_model


def build_rank_model(config: ModelConfig, plan: ParallelPlan, dtype: torch.dtype) -> Any:
    """The causal LM of ``config`` as one rank of ``plan`` runs it, without weights.

    Parameters are on the meta device with the rank's shapes; non-persistent buffers (rotary
    frequencies) are real. Costs no memory for weights.
    """
    register_attention()
    model = build_meta_model(config.raw, dtype=dtype, attention=ATTENTION)
    if plan.tp > 1:
        _cut_to_rank(model, plan)
        _set_head_counts(model, config, plan)
    _put_head(model, plan)
    return model


class RowParallelLinear(nn.Module):
    """Input dim split: the ranks' partial products are summed, then the bias is added once."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., in / tp]`` to ``[..., out]``."""
        total: torch.Tensor = all_reduce(nn.functional.linear(x, self.weight))
        return total if self.bias is None else total + self.bias


class Head(nn.Module):
    """The LM head: each rank computes its part of the vocabulary, the parts are gathered.

    ``last`` (``[1]`` i32 or None) is set by the traced program: the one token of each sequence
    whose logits are wanted, so that prefill does not compute the vocabulary for every token.
    """

    last: torch.Tensor | None = None

    def __init__(self, linear: nn.Linear, *, tp: int, vocab_size: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.tp, self.vocab_size = tp, vocab_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, S, hidden]`` to ``[N, S or 1, vocab]`` on every rank."""
        if self.last is not None:
            x = torch.index_select(x, 1, self.last)
        part = nn.functional.linear(x, self.weight, self.bias)
        return part if self.tp == 1 else all_gather(part, self.tp)[..., : self.vocab_size]


class VocabParallelEmbedding(nn.Module):
    """Each rank looks up the tokens in its rows; the others give zeros, and a sum joins them.

    Mixed into a family's own embedding class (see `split_vocab`), which may do more than look up:
    gemma's scales the rows. ``rank`` (``[1]`` i32) is set by the traced program before it calls
    the model.
    """

    rank: torch.Tensor
    vocab_per_rank: int

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """``[N, S]`` token ids to ``[N, S, hidden]``."""
        local = token_ids - self.rank * self.vocab_per_rank
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


def _cut_to_rank(model: Any, plan: ParallelPlan) -> None:
    for name, rule in plan.rules.items():
        owner_name, _, leaf = name.rpartition(".")
        owner = model.get_submodule(owner_name)
        old = getattr(owner, leaf)
        shard = torch.empty(rule.rank_shape, dtype=old.dtype, device="meta")
        setattr(owner, leaf, nn.Parameter(shard, requires_grad=False))
    for name, rule in plan.rules.items():
        if name.endswith(".weight"):
            _put_collective(model, name.removesuffix(".weight"), rule.role, plan)


def _set_head_counts(model: Any, config: ModelConfig, plan: ParallelPlan) -> None:
    for module in model.modules():
        if hasattr(module, "num_key_value_groups"):
            module.num_key_value_groups = plan.heads.q_per_kv
    for path in config.own_plan.query_head_counts if config.own_plan else ():
        module_path, _, attribute = path.rpartition(".")
        pattern = re.compile(r"(?:.*\.)?" + re.escape(module_path).replace(r"\*", r"\d+"))
        for name, module in model.named_modules():
            if pattern.fullmatch(name):
                setattr(module, attribute, plan.heads.q_per_rank)


def _put_collective(model: Any, module_name: str, role: str, plan: ParallelPlan) -> None:
    module: Any = model.get_submodule(module_name)
    if role == "row":
        model.set_submodule(module_name, RowParallelLinear(module))
    elif role == "vocab_embedding":
        split_vocab(module, vocab_per_rank=plan.vocab_per_rank)


def _put_head(model: Any, plan: ParallelPlan) -> None:
    """Wrap the LM head; a tied one has no parameter in the checkpoint and uses the embedding's."""
    head = Head(model.get_output_embeddings(), tp=plan.tp, vocab_size=model.config.vocab_size)
    model.set_output_embeddings(head)
    name = next(n for n, module in model.named_modules() if module is head)
    if f"{name}.weight" not in plan.rules:
        head.weight = model.get_input_embeddings().weight
