"""One rank's model: the transformers model on the meta device, its linears cut to the rank's size.

Every rank runs this same module; only the weights given to it differ.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from neuronc.errors import InputError
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.modules import is_partial
from neuronc.parallel.plan import ParallelPlan
from neuronc.trace.attention import ATTENTION, register_attention
from neuronc.trace.collectives import all_reduce
from neuronc.trace.experts import use_own_experts
from neuronc.trace.meta_model import build_meta_model
from neuronc.trace.parallel_modules import (
    GatheredLinear,
    Head,
    InOutLinear,
    RowParallelLinear,
    split_vocab,
    widen_norm,
)
from neuronc.trace.quantized_linear import quantize_linears
from neuronc.trace.rank_heads import RankHeads


def build_rank_model(config: ModelConfig, plan: ParallelPlan, dtype: torch.dtype) -> Any:
    """The model of ``config`` as one rank of ``plan`` runs it, without weights.

    Parameters are on the meta device with the rank's shapes; non-persistent buffers (rotary
    frequencies) are real. Costs no memory for weights.

    Raises:
        InputError: the model has a parameter of another shape than ``plan``.
    """
    register_attention()
    model = build_meta_model(config.raw, dtype=dtype, attention=ATTENTION)
    _check_shapes(model, plan)
    _fix_rope(model)
    if plan.tp > 1:
        _cut_to_rank(model, plan)
        _replace_modules(model, config, plan)
        _set_counts(model, config, plan)
        _sum_blocks(model, config, plan)
    quantize_linears(model, plan, in_out=config.family.in_out)
    use_own_experts(model, tp=plan.tp)
    if config.family.in_out:
        _replace_in_out(model)
    if config.family.adapt is not None:
        config.family.adapt(model, RankHeads(plan.heads))
    if config.embedding is None:
        _put_head(model, plan)
    model.wants_padding_mask = config.family.padding_mask
    model.first_position = config.family.first_position
    return model


def _check_shapes(model: Any, plan: ParallelPlan) -> None:
    own = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name, rule in plan.rules.items():
        if own.get(name, rule.shape) != rule.shape:
            message = f"{name!r} has shape {list(rule.shape)}; the model's is {list(own[name])}"
            raise InputError(message, hint="the weights do not belong to this config.json")


def _fix_rope(model: Any) -> None:
    """Keep rotary frequencies that would change with the sequence's length as they begin.

    `neuronc.sizes.complete` has seen to it that no sequence is long enough for the change.
    """
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, dict):
            module.rope_type = dict.fromkeys(kinds, "default")
        elif isinstance(kinds, str):
            module.rope_type = "default"


def _cut_to_rank(model: Any, plan: ParallelPlan) -> None:
    """Put parameters of the rank's shapes in place, under every name that a tied one has."""
    shards = {}
    for name, rule in plan.rules.items():
        if rule.dim is not None:
            old = model.get_parameter(name)
            shard = torch.empty(rule.rank_shape, dtype=old.dtype, device="meta")
            shards[id(old)] = nn.Parameter(shard, requires_grad=False)
    for module in model.modules():
        for leaf, old in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(old) in shards:
                setattr(module, leaf, shards[id(old)])


def _replace_modules(model: Any, config: ModelConfig, plan: ParallelPlan) -> None:
    for name, rule in plan.rules.items():
        if not name.endswith(".weight"):
            continue
        module_name = name.removesuffix(".weight")
        module = model.get_submodule(module_name)
        if rule.role == "row" and not is_partial(config, name):
            in_out = config.family.in_out
            model.set_submodule(module_name, RowParallelLinear(module, in_out=in_out))
        elif rule.role == "gather":
            gathered = GatheredLinear(module, tp=plan.tp, out_features=rule.shape[0])
            model.set_submodule(module_name, gathered)
        elif rule.role == "vocab_embedding":
            split_vocab(module, vocab_per_rank=plan.vocab_per_rank)
    heads = plan.heads
    for pattern, unit in config.family.wide_norms.items():
        of_query = unit == "query"
        ranks = heads.q_ranks if of_query else heads.kv_ranks
        number = heads.num_heads if of_query else heads.num_kv_heads
        for _, module in _modules(model, pattern):
            widen_norm(module, ranks, number)


def _sum_blocks(model: Any, config: ModelConfig, plan: ParallelPlan) -> None:
    """Sum the output of blocks, of which every rank computes a part, over the ranks."""
    partial = [name for name in plan.rules if is_partial(config, name)]
    for pattern in config.family.sums:
        for name, module in _modules(model, pattern):
            if any(parameter.startswith(f"{name}.") for parameter in partial):
                module.register_forward_hook(lambda _module, _inputs, output: all_reduce(output))


def _replace_in_out(model: Any) -> None:
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            model.set_submodule(name, InOutLinear(module))


def _set_counts(model: Any, config: ModelConfig, plan: ParallelPlan) -> None:
    """Numbers that modules took from the config and that are smaller on a rank."""
    heads = plan.heads
    counts = {
        "query_heads": heads.q_per_rank,
        "kv_heads": heads.kv_per_rank,
        "q_per_kv": heads.q_per_kv,
        "query_width": heads.q_per_rank * config.head_dim,
        "kv_width": heads.kv_per_rank * config.head_dim,
    }
    is_split = not config.family.why_not
    for module in model.modules():
        if is_split and hasattr(module, "num_key_value_groups"):
            module.num_key_value_groups = heads.q_per_kv
    for path, count in config.family.counts.items():
        owner, _, attribute = path.rpartition(".")
        of_config = owner.endswith(".config")
        for _, module in _modules(model, owner.removesuffix(".config")):
            if of_config:  # one object for all modules: this one gets its own
                module.config = copy.copy(module.config)
            setattr(module.config if of_config else module, attribute, counts[count])


def _modules(model: Any, pattern: str) -> Iterator[tuple[str, Any]]:
    wanted = re.compile(r"(?:.*\.)?" + re.escape(pattern).replace(r"\*", r"\d+"))
    return ((name, m) for name, m in model.named_modules() if wanted.fullmatch(name))


def _put_head(model: Any, plan: ParallelPlan) -> None:
    """Wrap the LM head; a tied one has no parameter in the checkpoint and uses the embedding's."""
    is_split = any(rule.role == "vocab_embedding" for rule in plan.rules.values())
    head = Head(
        model.get_output_embeddings(),
        tp=plan.tp if is_split else 1,
        vocab_size=model.config.get_text_config().vocab_size,
    )
    model.set_output_embeddings(head)
    name = next(n for n, module in model.named_modules() if module is head)
    if f"{name}.weight" not in plan.rules:
        head.weight = model.get_input_embeddings().weight
