"""One rank's module and a program's shapes to an exported program (`torch.export`).

Nothing here holds weights: parameters and caches are fake tensors, and all of them are inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.dtypes import DTYPES
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.trace.attention import ATTENTION
from neuronc.trace.context import ProgramContext, running
from neuronc.trace.kv_cache import LayerCache, probing_cache
from neuronc.trace.masks import masked_by_position
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec, TensorSpec
from neuronc.trace.rank_model import build_rank_model
from neuronc.trace.rank_program import RankProgram, call_model


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
    torch_dtype = getattr(torch, DTYPES[dtype].torch)
    model = build_rank_model(config, plan, torch_dtype)
    with masked_by_position(ATTENTION), torch.no_grad():
        layers = probe_caches(model, plan, torch_dtype)
        signature = make_signature(config, plan, spec, layers, dtype=dtype)
        program = RankProgram(model, signature, spec)
        with FakeTensorMode(allow_non_fake_inputs=True):
            inputs = tuple(
                torch.empty(t.shape, dtype=getattr(torch, DTYPES[t.dtype].torch))
                for t in signature.inputs
            )
        exported = torch.export.export(program, inputs, strict=False)
    return TracedProgram(spec=spec, signature=signature, exported=exported)


def probe_caches(
    model: Any, plan: ParallelPlan, dtype: torch.dtype
) -> tuple[LayerCache | None, ...]:
    """What each layer of a rank's ``model`` keeps of a token; None for one that keeps nothing.

    Found by running one token through the model on tensors without memory, since families differ:
    keys and values may have other sizes, and some layers use another's. Called under
    `masked_by_position`.
    """
    num_layers = model.config.get_text_config().num_hidden_layers
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        positions = torch.zeros((1, 1), dtype=torch.int32)
        rank = torch.zeros((1,), dtype=torch.int32) if plan.tp > 1 else None
        cache = probing_cache(num_layers, positions_NS=positions, key_length=1)
        weights = {n: torch.empty(r.rank_shape, dtype=dtype) for n, r in plan.rules.items()}
        with running(ProgramContext(positions_NS=positions, key_length=1, rank=rank)):
            call_model(model, weights, torch.zeros((1, 1), dtype=torch.int32), cache)
    return tuple(layer.found for layer in cache.layers)


def make_signature(
    config: ModelConfig,
    plan: ParallelPlan,
    spec: ProgramSpec,
    layers: Sequence[LayerCache | None],
    *,
    dtype: str,
) -> ProgramSignature:
    """Inputs and outputs of ``spec`` on one rank whose ``layers`` keep keys and values.

    Prefill data: ``token_ids [1, bucket]``, ``slot [1]``, ``start [1]`` (position of the first
    token), ``length [1]`` (valid tokens). Decode data: ``token_ids [batch]``,
    ``positions [batch]``. All i32. Output: ``logits`` (``[1, vocab]`` of the last valid token, or
    ``[batch, vocab]``), then the caches, each in place of its input.
    """
    weights = [
        TensorSpec(name=n, kind="weight", shape=r.rank_shape, dtype=dtype)
        for n, r in plan.rules.items()
    ]
    slots = (spec.batch_size, spec.max_length)
    caches = [
        TensorSpec(
            name=f"{part}.{number}", kind="cache", shape=(*slots, *getattr(kept, part)), dtype=dtype
        )
        for part in ("keys", "values")
        for number, kept in enumerate(layers)
        if kept is not None
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
