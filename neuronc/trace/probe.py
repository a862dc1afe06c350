"""A program run on tensors without memory, to learn what cannot be read from a config.

Families differ in what a layer keeps of a token (keys and values may have other sizes, and some
layers use another's), and in which of their layers compute the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.dtypes import DTYPES, from_torch
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.parallel.stored import stored_tensors
from neuronc.trace.context import running
from neuronc.trace.embed_program import EmbedProgram
from neuronc.trace.kv_cache import LayerCache, probing_cache
from neuronc.trace.layer_outputs import watching
from neuronc.trace.program_spec import ProgramSpec
from neuronc.trace.rank_program import call_model, start
from neuronc.trace.shared_layers import LayerCall, find_shared_layers
from neuronc.trace.signature import data_specs


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a program's first run showed.

    Attributes:
        caches: What each layer keeps of a token; None for one that keeps nothing.
        shared_layers: See `find_shared_layers`.
        layer_outputs: What every layer gives out, by its name.
    """

    caches: Sequence[LayerCache | None]
    shared_layers: Sequence[LayerCall]
    layer_outputs: Mapping[str, torch.Tensor]


def probe_program(
    model: Any, config: ModelConfig, plan: ParallelPlan, spec: ProgramSpec, dtype: torch.dtype
) -> Probe:
    """Run the program ``spec`` of a rank's ``model``; called under `masked_by_position`."""
    num_layers = model.config.get_text_config().num_hidden_layers
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        weights = _weights(plan, dtype)
        data = {t.name: torch.empty(t.shape, dtype=torch.int32) for t in data_specs(spec)}
        rank = torch.empty((1,), dtype=torch.int32) if plan.tp > 1 else None
        if spec.phase == "embed":
            embed = EmbedProgram(model, config, spec, signature=None)
            run = partial(embed.embed, weights, rank, data["token_ids"], data["lengths"])
            with watching(model) as outputs:
                shared = find_shared_layers(model, run)
            return Probe(caches=(), shared_layers=shared, layer_outputs=outputs)
        token_ids, place, program = start(data, rank, spec)
        cache = probing_cache(num_layers, (spec.batch_size, spec.max_length), **place)
        with running(program), watching(model) as outputs:
            shared = find_shared_layers(model, lambda: call_model(model, weights, token_ids, cache))
    caches = [layer.found for layer in cache.layers]
    return Probe(caches=caches, shared_layers=shared, layer_outputs=outputs)


def _weights(plan: ParallelPlan, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Empty weights of a rank by name, in the dtypes that they are stored in."""
    own = from_torch(str(dtype), subject="the model").name
    return {
        t.rule.name: torch.empty(t.rule.rank_shape, dtype=getattr(torch, DTYPES[t.dtype].torch))
        for t in stored_tensors(plan.rules.values(), dtype=own, scheme=plan.quantize)
    }
