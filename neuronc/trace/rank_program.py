"""A rank's model as a function of flat inputs to flat outputs, in the order of a signature."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from neuronc.trace.context import ProgramContext, current_program, running
from neuronc.trace.greedy import greedy_tokens
from neuronc.trace.kv_cache import slot_cache
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec


class RankProgram(nn.Module):
    """Flat inputs in signature order to flat outputs in signature order."""

    def __init__(self, model: Any, signature: ProgramSignature, spec: ProgramSpec) -> None:
        super().__init__()
        self.held = (model,)  # in a tuple: its parameters are inputs, not state of this module
        self.num_layers = model.config.get_text_config().num_hidden_layers
        self.signature, self.spec = signature, spec

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits ``[N, vocab]``, then the caches, then tokens ``[N]`` if the program samples."""
        by_kind: dict[str, dict[str, torch.Tensor]] = {
            "weight": {},
            "cache": {},
            "rank": {},
            "data": {},
        }
        for tensor_spec, tensor in zip(self.signature.inputs, inputs, strict=True):
            by_kind[tensor_spec.kind][tensor_spec.name] = tensor
        token_ids, place, program = start(by_kind["data"], by_kind["rank"].get("rank"), self.spec)
        cache = slot_cache(by_kind["cache"], self.num_layers, **place)
        with running(program):
            logits = call_model(self.held[0], by_kind["weight"], token_ids, cache)[:, 0]
        kept = [_kept(cache, name) for name in by_kind["cache"]]
        tokens = [greedy_tokens(logits)] if self.spec.on_device_sampling else []
        return (logits, *kept, *tokens)


def start(
    data: Mapping[str, torch.Tensor], rank: torch.Tensor | None, spec: ProgramSpec
) -> tuple[torch.Tensor, dict[str, Any], ProgramContext]:
    """Token ids ``[N, S]``, their place in the cache (see `SlotCacheLayer`), and the program."""
    is_prefill = spec.phase == "prefill"
    token_ids, positions, slots = (_prefill if is_prefill else _decode)(data, spec)
    key_length = spec.max_length if is_prefill else spec.bucket
    program = ProgramContext(
        positions_NS=positions,
        key_length=key_length,
        rank=rank,
        last=data["length"] - 1 if is_prefill else None,
    )
    return token_ids, {"slots": slots, "positions_NS": positions, "key_length": key_length}, program


def call_model(
    model: Any, weights: Mapping[str, torch.Tensor], token_ids: torch.Tensor, cache: Any
) -> torch.Tensor:
    """Logits ``[N, S or 1, vocab]`` of the running program; ``cache`` is written."""
    program = current_program()
    positions = program.positions_NS
    inputs = {
        "input_ids": token_ids,
        "position_ids": positions + model.first_position if model.first_position else positions,
        "past_key_values": cache,
        "use_cache": True,
    }
    if model.wants_padding_mask:
        inputs["attention_mask"] = torch.ones(
            (len(positions), program.key_length), dtype=torch.int32
        )
    outputs = torch.func.functional_call(model, dict(weights), (), inputs)
    logits: torch.Tensor = outputs.logits
    return logits


def _kept(cache: Any, name: str) -> torch.Tensor:
    part, _, number = name.partition(".")
    kept: torch.Tensor = getattr(cache.layers[int(number)], part)
    return kept


_Place = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Token ids ``[N, S]``, their positions ``[N, S]``, and the slots ``[N]`` of the N sequences."""


def _prefill(data: Mapping[str, torch.Tensor], spec: ProgramSpec) -> _Place:
    offsets = torch.arange(spec.bucket, dtype=torch.int32)
    positions = data["start"][:, None] + offsets[None, :]
    return data["token_ids"], positions, data["slot"]


def _decode(data: Mapping[str, torch.Tensor], spec: ProgramSpec) -> _Place:  # noqa: ARG001
    return data["token_ids"][:, None], data["positions"][:, None], None
