"""What the lowering writes out computes what torch's own operator does."""

from collections.abc import Callable

import pytest
import torch

from neuronc.lower.simplify_graph import simplify_graph

_INDEX = torch.ops.aten.index.Tensor
Function = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


class _Module(torch.nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.function(x)


def written_out(function: Function, x: torch.Tensor) -> tuple[set[str], tuple[torch.Tensor, ...]]:
    """Operators left in the rewritten graph, and what it computes."""
    program = torch.export.export(_Module(function), (x,), strict=False)
    graph = program.graph_module.graph
    simplify_graph(graph)
    graph.lint()
    program.graph_module.recompile()
    left = {str(n.target) for n in graph.nodes if n.op == "call_function"}
    return left, tuple(program.graph_module(x))


def top_k(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    values, indices = torch.topk(x, 3, dim=-1)
    return values, indices


def largest(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    values, places = x.max(dim=-1, keepdim=True)
    return values, places, *x.max(dim=-1)


def groups(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As a router that first picks groups of experts."""
    scores = x.view(-1, 2, 4).topk(2, dim=-1)[0].sum(-1)
    mask = torch.zeros_like(scores)
    mask.scatter_(1, torch.topk(scores, 1, dim=-1, sorted=False)[1], 1)
    wide = mask.unsqueeze(-1).expand(-1, 2, 4).reshape(-1, 8)
    left = x.masked_fill(~wide.bool(), float("-inf"))
    picked = torch.topk(left, 3, dim=-1)[1]
    return mask, picked, x.sigmoid().gather(1, picked)


def rotate(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """As a rotary embedding by complex multiplication."""
    angles = torch.outer(torch.arange(5.0), 1.0 / torch.arange(1.0, 3.0))
    turns = torch.polar(torch.ones_like(angles), angles).unsqueeze(-2) * 0.5
    pairs = torch.view_as_complex(x.float().reshape(5, 2, 2, 2))
    return (torch.view_as_real(pairs * turns).flatten(2),)


def fill(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    whole = x.new_empty(5, 12)
    whole[..., 8:].copy_(x[..., :4])
    whole[..., :8].copy_(2 * x)
    return (whole.transpose(0, 1) + 1,)


GONE: dict[Function, set[str]] = {
    top_k: {"aten.topk.default"},
    largest: {"aten.max.dim"},
    groups: {"aten.topk.default", "aten.scatter_.value", "aten.gather.default"},
    rotate: {"aten.polar.default", "aten.view_as_complex.default", "aten.view_as_real.default"},
    fill: {"aten.new_empty.default", "aten.copy_.default"},
}


@pytest.mark.parametrize("function", GONE)
def test_the_same_numbers_without_the_operators(function: Function) -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))

    left, found = written_out(function, x)

    assert not left & GONE[function]
    for ours, expected in zip(found, function(x), strict=True):
        torch.testing.assert_close(ours, expected.to(ours.dtype), rtol=1e-6, atol=1e-6)


def test_of_equal_values_each_is_picked_once() -> None:
    x = torch.tensor([[1.0, 2.0, 2.0, 2.0], [float("-inf"), float("-inf"), 3.0, float("-inf")]])

    _, (values, indices) = written_out(top_k, x)

    assert values.tolist() == torch.topk(x, 3)[0].tolist()
    assert indices.tolist() == [[1, 2, 3], [2, 0, 1]]


def read_too_early(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    whole = x.new_zeros(5, 8).new_empty(5, 8)
    whole[..., :4].copy_(x[..., :4])
    early = whole + 0
    whole[..., 4:].copy_(x[..., 4:])
    return whole, early


def half_written(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    whole = x.new_empty(5, 8)
    whole[..., :4].copy_(x[..., :4])
    return (whole[..., :4] + 1,)


@pytest.mark.parametrize("function", [read_too_early, half_written])
def test_a_tensor_that_is_read_before_all_of_it_is_written_is_left(function: Function) -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))

    left, _ = written_out(function, x)

    assert "aten.new_empty.default" in left


def test_the_smallest_are_left_to_torch() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))

    left, _ = written_out(lambda x: tuple(torch.topk(x, 2, largest=False)), x)

    assert "aten.topk.default" in left


def test_indices_from_the_end_are_counted_from_the_start_before_they_are_used() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    indices = torch.tensor([[-2, 0, 7], [3, -8, -1]])

    class Picks(torch.nn.Module):
        def forward(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            return x[:, index]

    program = torch.export.export(Picks(), (x, indices), strict=False)
    simplify_graph(program.graph_module.graph)
    (pick,) = (n for n in program.graph_module.graph.nodes if n.target == _INDEX)
    program.graph_module.recompile()

    assert torch.equal(program.graph_module(x, indices)[0], x[:, indices])
    pick.replace_all_uses_with(pick.args[1][1])
    program.graph_module.recompile()
    assert program.graph_module(x, indices)[0].tolist() == [[6, 0, 7], [3, 0, 7]]
