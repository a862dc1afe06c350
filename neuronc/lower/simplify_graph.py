"""Takes out of a traced graph what inference does not need, and writes out layer norm and more.

Left in, each of these would make lowering expand operators by tracing the program again, which
takes as long as all the rest. torch-mlir's own expansions of layer norm and of whole-number division
have f64 in them, which no Neuron device has.
"""

from typing import Any

import torch

from neuronc.lower.fx_nodes import call
from neuronc.lower.join_written_parts import join_written_parts
from neuronc.lower.write_out_complex import write_out_complex
from neuronc.lower.write_out_routing import write_out_routing

_aten = torch.ops.aten
_NO_OPS = (_aten.dropout.default, _aten.to.dtype_layout)


def simplify_graph(graph: torch.fx.Graph, *, keeps_top_k: bool = False) -> None:
    """Rewrite ``graph`` in place; with ``keeps_top_k`` its top-k stay as they are."""
    for node in list(graph.nodes):
        if node.target is _aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    write_out_complex(graph)
    write_out_routing(graph, keeps_top_k=keeps_top_k)
    join_written_parts(graph)
    for node in list(graph.nodes):
        if node.target in _NO_OPS and _does_nothing(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is _aten.type_as.default:
            _write_out_type_as(graph, node)
        elif node.target is _aten.index.Tensor:
            _count_from_the_start(graph, node)
        elif node.target is _aten.layer_norm.default:
            _write_out_layer_norm(graph, node)
        elif node.target is _aten.floor_divide.default and _divides_integers(node):
            _write_out_floor_divide(graph, node)


def _count_from_the_start(graph: torch.fx.Graph, node: Any) -> None:
    """Torch counts a negative index from the end; a gather would take it for 0."""
    x, indices = node.args
    counted = []
    with graph.inserting_before(node):
        for dim, index in enumerate(indices):
            if index is None or index.meta["val"].dtype == torch.bool:
                counted.append(index)
                continue
            size = x.meta["val"].shape[dim]
            is_negative = call(graph, node, _aten.lt.Scalar, index, 0)
            from_end = call(graph, node, _aten.add.Tensor, index, size)
            counted.append(call(graph, node, _aten.where.self, is_negative, from_end, index))
    node.args = (x, counted)


def _does_nothing(node: Any) -> bool:
    if node.target is _aten.dropout.default:
        _, _, is_training = node.args
        return not is_training
    return bool(node.args[0].meta["val"].dtype == node.meta["val"].dtype)


def _write_out_type_as(graph: torch.fx.Graph, node: Any) -> None:
    with graph.inserting_before(node):
        cast = call(graph, node, _aten.to.dtype, node.args[0], node.meta["val"].dtype)
    node.replace_all_uses_with(cast)
    graph.erase_node(node)


def _divides_integers(node: Any) -> bool:
    x, divisor = node.args
    return isinstance(divisor, int) and not x.meta["val"].dtype.is_floating_point


def _write_out_floor_divide(graph: torch.fx.Graph, node: Any) -> None:
    """In f32 without the remainder, exact below 2^24, which positions are; torch-mlir takes f64."""
    x, divisor = node.args
    with graph.inserting_before(node):
        remainder = call(graph, node, _aten.remainder.Scalar, x, divisor)
        multiple = call(graph, node, _aten.sub.Tensor, x, remainder)
        wide = call(graph, node, _aten.to.dtype, multiple, torch.float32)
        quotient = call(graph, node, _aten.div.Tensor, wide, divisor)
        out = call(graph, node, _aten.to.dtype, quotient, node.meta["val"].dtype)
    node.replace_all_uses_with(out)
    graph.erase_node(node)


def _write_out_layer_norm(graph: torch.fx.Graph, node: Any) -> None:
    """In f32, as torch computes it, whatever the input is."""
    defaults = (None, None, 1e-5)  # of weight, bias and eps
    x, normalized_shape, weight, bias, eps = (*node.args, *defaults[len(node.args) - 2 :])[:5]
    rank, dtype = x.meta["val"].dim(), x.meta["val"].dtype
    dims = list(range(rank - len(normalized_shape), rank))

    def do(target: Any, *args: Any) -> torch.fx.Node:
        return call(graph, node, target, *args)

    with graph.inserting_before(node):
        wide = x if dtype == torch.float32 else do(_aten.to.dtype, x, torch.float32)
        centred = do(_aten.sub.Tensor, wide, do(_aten.mean.dim, wide, dims, True))
        variance = do(_aten.mean.dim, do(_aten.mul.Tensor, centred, centred), dims, True)
        scale = do(_aten.rsqrt.default, do(_aten.add.Tensor, variance, eps))
        out = do(_aten.mul.Tensor, centred, scale)
        out = out if weight is None else do(_aten.mul.Tensor, out, weight)
        out = out if bias is None else do(_aten.add.Tensor, out, bias)
        out = out if dtype == torch.float32 else do(_aten.to.dtype, out, dtype)
    node.replace_all_uses_with(out)
    graph.erase_node(node)
