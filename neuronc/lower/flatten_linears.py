"""Linear layers on ``[batch, tokens, hidden]`` become plain matrix products on ``[rows, hidden]``.

torch-mlir lowers a linear layer of more than two dims to a batched product and copies the weight
once per sequence. As rows, all sequences share one product and the weight is read once.
"""

from math import prod
from typing import Any

import torch

from neuronc.lower.fx_nodes import call

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
        rows = call(graph, node, _VIEW, source, [prod(shape[:-1]), shape[-1]])
        product = call(graph, node, _LINEAR, rows, *node.args[1:])
        whole = call(graph, node, _VIEW, product, list(node.meta["val"].shape))
    node.replace_all_uses_with(whole)
    graph.erase_node(node)
