"""Writes out how a router picks experts, in comparisons, maxima and sums.

torch-mlir's own forms are sorts, scatters and gathers; no Neuron device sorts, and the others are
slow there. Experts are few, so every one is looked at.
"""

from typing import Any

import torch

from neuronc.lower.fx_nodes import call

_aten = torch.ops.aten


def write_out_routing(graph: torch.fx.Graph, *, keeps_top_k: bool = False) -> None:
    """Rewrite routing along the last dim of ``graph`` in place.

    That is top-k unless it is kept, maxima with their places, scatters and gathers.
    """
    writers = {
        _aten.topk.default: _top_k,
        _aten.max.dim: _largest,
        _aten.scatter_.value: _scatter,
        _aten.scatter.value: _scatter,
        _aten.gather.default: _gather,
    }
    if keeps_top_k:
        del writers[_aten.topk.default]
    for node in list(graph.nodes):
        write = writers.get(node.target)
        if write is not None and _is_along_last_dim(node):
            with graph.inserting_before(node):
                write(graph, node)


def _is_along_last_dim(node: Any) -> bool:
    rank = node.args[0].meta["val"].dim()
    if node.target is _aten.topk.default:
        _, _, dim, largest = (*node.args, *(-1, True)[len(node.args) - 2 :])[:4]
        return bool(largest and dim in (-1, rank - 1))
    if node.target is _aten.max.dim:
        return bool(node.args[1] in (-1, rank - 1))
    same = node.args[0].meta["val"].shape[:-1] == node.args[2].meta["val"].shape[:-1]
    return bool(node.args[1] in (-1, rank - 1) and same)


class _Writer:
    """Makes nodes like ``node``; ``numbers`` counts along the last dim of its first argument."""

    def __init__(self, graph: torch.fx.Graph, node: Any) -> None:
        self.graph, self.node = graph, node
        self.size = node.args[0].meta["val"].shape[-1]
        self.numbers = graph.call_function(_aten.arange.default, (self.size,))
        like = node.args[0].meta["val"]
        self.numbers.meta = {"val": like.new_empty((self.size,), dtype=torch.int64)}

    def do(self, target: Any, *args: Any) -> torch.fx.Node:
        return call(self.graph, self.node, target, *args)

    def is_index(self, index: Any) -> torch.fx.Node:
        """``[..., K]`` to ``[..., K, size]``: which number each index is."""
        return self.do(_aten.eq.Tensor, self.do(_aten.unsqueeze.default, index, -1), self.numbers)


def _top_k(graph: torch.fx.Graph, node: Any) -> None:
    """The largest, then the largest of the others, ...; of equal ones the first."""
    writer = _Writer(graph, node)
    do, x, count = writer.do, node.args[0], node.args[1]
    lowest, beyond = float("-inf"), writer.size
    values, indices = [], []
    taken: Any = do(_aten.lt.Scalar, do(_aten.expand_as.default, writer.numbers, x), 0)
    for _ in range(count):
        left = do(_aten.masked_fill.Scalar, x, taken, lowest)
        best = do(_aten.amax.default, left, [-1], True)
        free = do(_aten.logical_not.default, taken)
        is_best = do(_aten.logical_and.default, do(_aten.eq.Tensor, left, best), free)
        others = do(_aten.logical_not.default, is_best)
        numbers = do(_aten.expand_as.default, writer.numbers, x)
        numbers = do(_aten.masked_fill.Scalar, numbers, others, beyond)
        first = do(_aten.amin.default, numbers, [-1], True)
        taken = do(_aten.logical_or.default, taken, do(_aten.eq.Tensor, writer.numbers, first))
        values.append(best)
        indices.append(first)
    _put_pair(graph, node, [do(_aten.cat.default, parts, -1) for parts in (values, indices)])


def _largest(graph: torch.fx.Graph, node: Any) -> None:
    """The largest along the last dim and its place; of equal ones the first."""
    writer = _Writer(graph, node)
    do, x = writer.do, node.args[0]
    best = do(_aten.amax.default, x, [-1], True)
    others = do(_aten.logical_not.default, do(_aten.eq.Tensor, x, best))
    numbers = do(_aten.expand_as.default, writer.numbers, x)
    places = do(_aten.masked_fill.Scalar, numbers, others, writer.size)
    results = [best, do(_aten.amin.default, places, [-1], True)]
    if not (*node.args, False)[2]:
        results = [do(_aten.squeeze.dim, result, -1) for result in results]
    _put_pair(graph, node, results)


def _put_pair(graph: torch.fx.Graph, node: Any, results: list[Any]) -> None:
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)


def _scatter(graph: torch.fx.Graph, node: Any) -> None:
    writer = _Writer(graph, node)
    x, _, index, value = node.args
    is_written = writer.do(_aten.any.dim, writer.is_index(index), -2)
    written = writer.do(_aten.masked_fill.Scalar, x, is_written, value)
    node.replace_all_uses_with(written)
    graph.erase_node(node)
    if node.target is _aten.scatter_.value:  # its input is not looked at again under its old name
        x.replace_all_uses_with(written, delete_user_cb=lambda user: _comes_after(written, user))


def _comes_after(written: Any, user: Any) -> bool:
    return bool(user > written)


def _gather(graph: torch.fx.Graph, node: Any) -> None:
    writer = _Writer(graph, node)
    x, _, index = node.args[:3]
    others = writer.do(_aten.logical_not.default, writer.is_index(index))
    rows = writer.do(_aten.unsqueeze.default, x, -2)
    wide = writer.do(_aten.expand.default, rows, list(others.meta["val"].shape))
    kept = writer.do(_aten.masked_fill.Scalar, wide, others, 0)
    node.replace_all_uses_with(writer.do(_aten.sum.dim_IntList, kept, [-1]))
    graph.erase_node(node)
