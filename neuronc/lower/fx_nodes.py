"""New nodes in a traced graph, with the shapes that later stages read from them."""

from typing import Any

import torch


def call(graph: torch.fx.Graph, like: torch.fx.Node, target: Any, *args: Any) -> torch.fx.Node:
    """A call of ``target`` at the graph's insertion point, said to come from where ``like`` does."""
    node = graph.call_function(target, args)
    value = target(*torch.fx.node.map_arg(args, lambda arg: arg.meta["val"]))
    # Not all of the old meta: its shape must not go along.
    kept = {k: v for k, v in like.meta.items() if k in ("stack_trace", "nn_module_stack", "custom")}
    node.meta = {**kept, "val": value}
    return node
