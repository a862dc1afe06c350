"""The rewritten graph computes what the traced module computes."""

import pytest
import torch
from torch.nn import functional as F

from neuronc.lower.decompositions import TAKEN_AS_THEY_ARE
from neuronc.lower.simplify_graph import simplify_graph


class Norms(torch.nn.Module):
    """Layer norm in each of its forms, over one dim and over two."""

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        whole = F.layer_norm(x, [6], weight, bias, 1e-3)
        without_bias = F.layer_norm(x, [6], weight)
        two_dims = F.layer_norm(x, [4, 6], eps=0.5)
        return whole + 2 * without_bias + 3 * two_dims


class NoOps(torch.nn.Module):
    """What OPT and gemma have around their arithmetic."""

    def forward(self, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        wide = x.float() * 3
        return F.dropout(wide.type_as(x), 0.5, training=False).to(x.device) + 1


class Dropout(torch.nn.Module):
    """A dropout that drops."""

    def forward(self, x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5, training=True)


def simplified(
    module: torch.nn.Module, dtype: torch.dtype
) -> tuple[set[str], torch.Tensor, torch.Tensor]:
    """Operators left, and the results of the module and of its rewritten graph."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 6), (6,), (6,))
    inputs = tuple((3 * torch.randn(s, generator=generator) + 1).to(dtype) for s in shapes)
    program = torch.export.export(module, inputs, strict=False)
    simplify_graph(program.graph_module.graph)
    program.graph_module.recompile()
    left = {str(n.target) for n in program.graph_module.graph.nodes if n.op == "call_function"}
    return left, module(*inputs), program.graph_module(*inputs)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("module", [Norms(), NoOps()], ids=["norms", "no-ops"])
def test_the_rewritten_graph_computes_the_same(module: torch.nn.Module, dtype: torch.dtype) -> None:
    left, expected, found = simplified(module, dtype)

    assert left <= TAKEN_AS_THEY_ARE
    assert found.dtype == dtype
    # torch rounds a norm once; the sum of three norms may differ by a rounding of each
    eps = torch.finfo(dtype).eps
    assert torch.allclose(found.float(), expected.float(), rtol=4 * eps, atol=8 * eps)


class Chunks(torch.nn.Module):
    """Which chunk a position is in, as masks of chunked attention ask."""

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        return positions // 7 + 100 * (positions // 8192)


def test_whole_numbers_are_divided_exactly() -> None:
    positions = torch.tensor([-8, -7, -1, 0, 6, 7, 8191, 8192, 131071, 2**24 - 1])
    program = torch.export.export(Chunks(), (positions,), strict=False)
    simplify_graph(program.graph_module.graph)
    program.graph_module.recompile()

    targets = {n.target for n in program.graph_module.graph.nodes if n.op == "call_function"}
    assert torch.ops.aten.floor_divide.default not in targets
    assert torch.equal(program.graph_module(positions)[0], Chunks()(positions))


def test_a_dropout_that_drops_stays() -> None:
    left, _, _ = simplified(Dropout(), torch.float32)

    assert "aten.dropout.default" in left


def test_new_nodes_have_the_shape_and_the_place_of_the_old_one() -> None:
    inputs = (torch.ones(2, 4, 6), torch.ones(6), torch.ones(6))
    program = torch.export.export(Norms(), inputs, strict=False)
    simplify_graph(program.graph_module.graph)

    nodes = [n for n in program.graph_module.graph.nodes if n.op == "call_function"]
    assert all("layer_norm" in n.meta["stack_trace"] for n in nodes if "rsqrt" in str(n.target))
    assert {tuple(n.meta["val"].shape) for n in nodes if "rsqrt" in str(n.target)} == {
        (2, 4, 1),
        (2, 1, 1),
    }
