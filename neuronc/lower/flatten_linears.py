"""Linear layers on ``[batch, tokens, hidden]`` become plain matrix products on ``[rows, hidden]``.

torch-mlir lowers a linear layer of more than two dims to a batched product and copies the weight
once per sequence. As rows, all sequences share one product and the weight is read once.
"""

from math import prod
from typing import Any

import torch

_LINEAR = torch.ops.aten.linear.default
_VIEW = torch.ops.aten.view.default


def flatten_linears(graph: torch.fx.Graph) -> None:
    """Rewrite every linear layer of ``graph`` whose input has more than two dims, in place."""
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is _LINEAR:
            source = node.args[0]
            shape = list(source.meta["val"].shape)
            if len(shape) > 2:
                _flatten(graph, node, source, shape)


def _flatten(graph: torch.fx.Graph, node: Any, source: Any, shape: list[int]) -> None:
    with graph.inserting_before(node):
        rows = _view(graph, source, [prod(shape[:-1]), shape[-1]])
        product = graph.call_function(_LINEAR, (rows, *node.args[1:]))
        out = node.meta["val"]
        product.meta = _meta(node, out.reshape(-1, out.shape[-1]))
        whole = _view(graph, product, list(out.shape))
    node.replace_all_uses_with(whole)
    graph.erase_node(node)


def _view(graph: torch.fx.Graph, source: Any, shape: list[int]) -> Any:
    view = graph.call_function(_VIEW, (source, shape))
    view.meta = _meta(source, source.meta["val"].reshape(shape))
    return view


def _meta(node: Any, value: torch.Tensor) -> dict[str, Any]:
    """Where ``node`` came from, with the new value; its old shape must not go along."""
    kept = {k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack")}
    return {**kept, "val": value}
