"""Which layers share a body, and which must not."""

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.families.model_config import read_model_config
from neuronc.lower.finish_stablehlo import finish_stablehlo
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.layer_print import LayerPrint
from neuronc.trace.meta_model import parameter_shapes
from neuronc.trace.program_spec import ProgramSpec
from neuronc.trace.trace_program import TracedProgram, trace_program
from tests.tiny_families import TINY_FAMILIES

DECODE = ProgramSpec(phase="decode", bucket=8, batch_size=2, max_length=16)


def trace(variant: str, *, tp: int = 1, **fields: Any) -> TracedProgram:
    from transformers import AutoConfig

    model_type, own = TINY_FAMILIES[variant]
    raw = AutoConfig.for_model(model_type, **{**own, **fields}).to_dict()
    config = read_model_config(raw, source=variant)
    plan = plan_parallelism(config, parameter_shapes(raw), tp)
    return trace_program(config, plan, DECODE, dtype="f32")


def calls(traced: TracedProgram) -> list[str]:
    """The bodies that the program calls, in order."""
    nodes = traced.exported.graph.nodes
    return [n.args[1] for n in nodes if n.target is torch.ops.neuronc.layer.default]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize(
    ("variant", "fields", "expected"),
    [
        ("llama", {"num_hidden_layers": 3}, "000"),
        ("gemma2", {"num_hidden_layers": 4}, "0000"),  # windows are in the mask, an argument
        ("smollm3", {"num_hidden_layers": 3, "no_rope_layers": [1, 0, 1]}, "010"),
        ("deepseek_v3", {"num_hidden_layers": 3}, "011"),  # one dense layer first
        ("deepseek_v2", {"num_hidden_layers": 3}, "011"),  # rotates by complex numbers
        ("falcon, ALiBi", {"num_hidden_layers": 2}, "00"),
    ],
)
@pytest.mark.parametrize("tp", [1, 2])
def test_alike_layers_are_calls_of_one_body(
    variant: str, fields: dict[str, Any], expected: str, tp: int
) -> None:
    traced = trace(variant, tp=tp, **fields)

    assert calls(traced) == [f"layer_{number}" for number in expected]
    assert set(traced.bodies) == set(calls(traced))
    text = finish_stablehlo(traced_to_stablehlo(traced, IRDump(None)), tp=tp)
    assert text.count("func.func") == 1  # all written out again
    assert "func.call" not in text


def test_a_number_that_depends_on_the_layer_keeps_layers_apart() -> None:
    traced = trace("gpt2", scale_attn_by_inverse_layer_idx=True)

    assert calls(traced) == []


def test_an_operator_of_a_body_is_in_the_graph_of_no_layer() -> None:
    traced = trace("llama", num_hidden_layers=3)

    softmax = torch.ops.aten.softmax.int
    in_body = [n.target for n in traced.bodies["layer_0"].graph.nodes].count(softmax)
    in_main = [n.target for n in traced.exported.graph.nodes].count(softmax)
    assert (in_body, in_main) == (1, 0)


def print_of(layer: Any, x: torch.Tensor, **more: torch.Tensor) -> tuple[str, bool]:
    with LayerPrint({"x": x, **more}) as watched:
        out = layer(x)
    return watched.digest({"x": x}, [out]), watched.is_whole


def test_prints_differ_where_graphs_do() -> None:
    layers = [
        lambda x: x * 2 + x,
        lambda x: x * 3 + x,  # another constant
        lambda x: x * 2 + x * 2,  # another operand
        lambda x: x + x * 2,  # another order
        lambda x: x * torch.tensor([2.0, 2.0]) + x,  # a tensor made inside
        lambda x: x * torch.tensor([2.0, 3.0]) + x,
    ]
    with FakeTensorMode(allow_non_fake_inputs=True):
        prints = [print_of(layer, torch.empty(2)) for layer in layers]
        again = [print_of(layer, torch.empty(2)) for layer in layers]

    assert prints == again
    assert len({digest for digest, _ in prints}) == len(layers)
    assert all(is_whole for _, is_whole in prints)


def test_a_buffer_is_known_by_its_values() -> None:
    buffers = [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])]
    with FakeTensorMode(allow_non_fake_inputs=True):
        first, same, other = (print_of(lambda x, b=b: x * b, torch.empty(2)) for b in buffers)

    assert first == same
    assert first != other


def test_a_layer_that_sees_another_tensor_is_not_whole() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        seen = torch.empty(2)
        _, alone = print_of(lambda x: x + seen, torch.empty(2))
        _, given = print_of(lambda x: x + seen, torch.empty(2), seen=seen)

    assert (alone, given) == (False, True)


def test_a_layer_that_changes_its_input_is_not_whole() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        _, changes = print_of(lambda x: x.add_(1), torch.empty(2))
        _, own = print_of(lambda x: nn.functional.relu(x + 1, inplace=True), torch.empty(2))

    assert (changes, own) == (False, True)
