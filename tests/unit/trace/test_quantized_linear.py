"""Ranks with quantised weights against transformers with the weights that they stand for."""

from typing import Any

import numpy as np
import pytest
import torch

from neuronc.families.model_config import read_model_config
from neuronc.lower.finish_stablehlo import finish_stablehlo
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.quantize import dequantize
from neuronc.parallel.stored import store
from neuronc.trace.eager_ranks import EagerRanks
from neuronc.trace.meta_model import parameter_shapes, stored_names
from neuronc.trace.program_spec import ProgramSpec
from neuronc.trace.trace_program import TracedProgram, trace_program
from tests.tiny_families import TINY_FAMILIES, random_model

TOLERANCE = 2e-5
"""Of the largest logit: f32, sums in another order."""

# One of each kind: plain, fused, [in, out], experts beside linear layers, latent attention.
FAST = ("llama", "phi3", "gpt2", "deepseek_v2")
FAMILIES = [v if v in FAST else pytest.param(v, marks=pytest.mark.slow) for v in TINY_FAMILIES]


def quantized_weights(model: Any, plan: ParallelPlan) -> dict[str, torch.Tensor]:
    """What the rank files hold; ``model`` gets the weights that the quantised ones stand for."""
    stored: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, rule in plan.rules.items():
            weight = model.state_dict()[name]
            if rule.channel_dim is None:
                stored[name] = weight
                continue
            (_, values, _), (scales_name, scales, _) = store(weight.numpy(), rule, plan.quantize)
            is_float = plan.quantize == "fp8_e4m3"
            raw = torch.from_numpy(values.view(np.uint8 if is_float else np.int8))
            stored[name] = raw.view(torch.float8_e4m3fn) if is_float else raw
            stored[scales_name] = torch.from_numpy(scales)
            weight.copy_(torch.from_numpy(dequantize(values, scales, rule.channel_dim)))
    return stored


@pytest.mark.parametrize(("quantize", "tp"), [("int8", 3), ("fp8_e4m3", 1)])
@pytest.mark.parametrize("variant", FAMILIES)
def test_ranks_compute_what_transformers_does_with_dequantised_weights(
    variant: str, quantize: str, tp: int
) -> None:
    model = random_model(variant)
    config = read_model_config(model.config.to_dict(), source=variant)
    shapes = {name: tuple(model.state_dict()[name].shape) for name in stored_names(model)}
    plan = plan_parallelism(config, shapes, tp, quantize=quantize)
    assert any(rule.channel_dim is not None for rule in plan.rules.values())
    ids = np.random.default_rng(3).integers(3, config.vocab_size, 9)
    with torch.no_grad():
        original = model(input_ids=torch.tensor(ids[None]), use_cache=False).logits[0].numpy()
        weights = quantized_weights(model, plan)
        expected = model(input_ids=torch.tensor(ids[None]), use_cache=False).logits[0].numpy()
    ranks = EagerRanks(config, plan, weights, batch_size=1, max_length=16, dtype="f32")
    prefilled = ranks.prefill(ids[:8].tolist(), slot=0, start=0, bucket=8)
    decoded = ranks.decode([int(ids[8])], [8])
    scale = np.abs(expected).max()
    assert np.abs(prefilled - expected[7]).max() < TOLERANCE * scale
    assert np.abs(decoded[0] - expected[8]).max() < TOLERANCE * scale
    assert np.abs(expected - original).max() > 100 * TOLERANCE * scale  # it is not the original


def trace(quantize: str, *, tp: int) -> TracedProgram:
    from transformers import AutoConfig

    model_type, own = TINY_FAMILIES["llama"]
    raw = AutoConfig.for_model(model_type, **{**own, "num_hidden_layers": 3}).to_dict()
    config = read_model_config(raw, source="llama")
    plan = plan_parallelism(config, parameter_shapes(raw), tp, quantize=quantize)
    spec = ProgramSpec(phase="decode", bucket=8, batch_size=2, max_length=16)
    return trace_program(config, plan, spec, dtype="bf16")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize(("quantize", "element"), [("int8", "i8"), ("fp8_e4m3", "f8E4M3FN")])
def test_programs_take_the_stored_weights_and_share_layers(quantize: str, element: str) -> None:
    traced = trace(quantize, tp=2)
    layer = torch.ops.neuronc.layer.default
    assert [n.target for n in traced.exported.graph.nodes].count(layer) == 3
    assert set(traced.bodies) == {"layer_0"}
    text = finish_stablehlo(traced_to_stablehlo(traced, IRDump(None)), tp=2)
    weights = [t for t in traced.signature.inputs if t.name.endswith("_proj.weight")]
    main = next(line for line in text.splitlines() if "@main" in line)
    assert main.count(f"x{element}>") == len(weights) == 3 * 7
    assert text.count(f"x{element}>) ->") == len(weights)  # each is converted, and nothing else
