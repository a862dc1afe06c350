"""One rank's module and a program's shapes to an exported program (`torch.export`).

Nothing here holds weights: parameters and caches are fake tensors, and all of them are inputs.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.dtypes import DTYPES
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.trace.kv_cache import build_cache
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec, TensorSpec
from neuronc.trace.rank_model import Head, VocabParallelEmbedding, build_rank_model


@dataclass(frozen=True, kw_only=True)
class TracedProgram:
    """A program as a torch graph, ready for lowering."""

    spec: ProgramSpec
    signature: ProgramSignature
    exported: torch.export.ExportedProgram


def trace_program(
    config: ModelConfig, plan: ParallelPlan, spec: ProgramSpec, *, dtype: str
) -> TracedProgram:
    """Export the program ``spec`` of the model ``config``, one rank of ``plan``."""
    model = build_rank_model(config, plan, getattr(torch, DTYPES[dtype].torch))
    signature = make_signature(config, plan, spec, dtype=dtype)
    program = _RankProgram(model, signature, spec)
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = tuple(
            torch.empty(t.shape, dtype=getattr(torch, DTYPES[t.dtype].torch))
            for t in signature.inputs
        )
    with torch.no_grad():
        exported = torch.export.export(program, inputs, strict=False)
    return TracedProgram(spec=spec, signature=signature, exported=exported)


def make_signature(
    config: ModelConfig, plan: ParallelPlan, spec: ProgramSpec, *, dtype: str
) -> ProgramSignature:
    """Inputs and outputs of ``spec`` on one rank.

    Prefill data: ``token_ids [1, bucket]``, ``slot [1]``, ``start [1]`` (position of the first
    token), ``length [1]`` (valid tokens). Decode data: ``token_ids [batch]``,
    ``positions [batch]``. All i32. Output: ``logits`` (``[1, vocab]`` of the last valid token, or
    ``[batch, vocab]``), then the caches, each in place of its input.
    """
    weights = [
        TensorSpec(name=n, kind="weight", shape=r.rank_shape, dtype=dtype)
        for n, r in plan.rules.items()
    ]
    cache_shape = (spec.batch_size, spec.max_length, plan.heads.kv_per_rank, config.head_dim)
    caches = [
        TensorSpec(name=f"{part}.{layer}", kind="cache", shape=cache_shape, dtype=dtype)
        for part in ("keys", "values")
        for layer in range(config.num_layers)
    ]
    rank = [TensorSpec(name="rank", kind="rank", shape=(1,), dtype="i32")] if plan.tp > 1 else []
    inputs = (*weights, *caches, *rank, *_data_specs(spec))
    rows = 1 if spec.phase == "prefill" else spec.batch_size
    logits = TensorSpec(name="logits", kind="data", shape=(rows, config.vocab_size), dtype=dtype)
    aliases = {1 + i: len(weights) + i for i in range(len(caches))}
    return ProgramSignature(inputs=inputs, outputs=(logits, *caches), aliases=aliases)


def _data_specs(spec: ProgramSpec) -> tuple[TensorSpec, ...]:
    if spec.phase == "prefill":
        shapes = {"token_ids": (1, spec.bucket), "slot": (1,), "start": (1,), "length": (1,)}
    else:
        shapes = {"token_ids": (spec.batch_size,), "positions": (spec.batch_size,)}
    return tuple(TensorSpec(name=n, kind="data", shape=s, dtype="i32") for n, s in shapes.items())


class _RankProgram(nn.Module):
    """Flat inputs in signature order to flat outputs in signature order."""

    def __init__(self, model: nn.Module, signature: ProgramSignature, spec: ProgramSpec) -> None:
        super().__init__()
        self.held = (model,)  # in a tuple: its parameters are inputs, not state of this module
        self.signature, self.spec = signature, spec

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        by_kind: dict[str, dict[str, torch.Tensor]] = {
            "weight": {},
            "cache": {},
            "rank": {},
            "data": {},
        }
        for tensor_spec, tensor in zip(self.signature.inputs, inputs, strict=True):
            by_kind[tensor_spec.kind][tensor_spec.name] = tensor
        for module in self.held[0].modules():
            if isinstance(module, VocabParallelEmbedding):
                module.rank = by_kind["rank"]["rank"]
            elif isinstance(module, Head) and self.spec.phase == "prefill":
                module.last = by_kind["data"]["length"] - 1
        caches = list(by_kind["cache"].values())
        place = _prefill_place if self.spec.phase == "prefill" else _decode_place
        token_ids, positions, slots = place(by_kind["data"], self.spec)
        key_length = self.spec.max_length if self.spec.phase == "prefill" else self.spec.bucket
        half = len(caches) // 2
        cache = build_cache(
            caches[:half],
            caches[half:],
            slots=slots,
            positions_NS=positions,
            key_length=key_length,
        )
        inputs_by_name = {
            "input_ids": token_ids,
            "attention_mask": _causal_mask(positions, key_length, caches[0].dtype),
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        outputs = torch.func.functional_call(self.held[0], by_kind["weight"], (), inputs_by_name)
        keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
        return (outputs.logits[:, 0], *keys, *values)


_Place = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Token ids ``[N, S]``, their positions ``[N, S]``, and the slots ``[N]`` of the N sequences."""


def _prefill_place(data: dict[str, torch.Tensor], spec: ProgramSpec) -> _Place:
    offsets = torch.arange(spec.bucket, dtype=torch.int32)
    positions = data["start"][:, None] + offsets[None, :]
    return data["token_ids"], positions, data["slot"]


def _decode_place(data: dict[str, torch.Tensor], spec: ProgramSpec) -> _Place:  # noqa: ARG001
    return data["token_ids"][:, None], data["positions"][:, None], None


def _causal_mask(positions: torch.Tensor, key_length: int, dtype: torch.dtype) -> torch.Tensor:
    """``[N, 1, S, key_length]``: 0 where a key is not after the query, else the lowest number."""
    keys = torch.arange(key_length, dtype=torch.int32)
    visible = keys[None, None, :] <= positions[:, :, None]
    zero = torch.zeros((), dtype=dtype)
    return torch.where(visible, zero, torch.finfo(dtype).min)[:, None]
