"""An empty tensor that is filled part by part becomes a concatenation of the parts.

Left in, each part would be a copy of the whole, and torch-mlir runs out of memory over them.
"""

from typing import Any

import torch

from neuronc.lower.fx_nodes import call

_aten = torch.ops.aten


def join_written_parts(graph: torch.fx.Graph) -> None:
    """Rewrite ``graph`` in place, where all of a tensor is written along one dim before it is read."""
    for node in list(graph.nodes):
        if node.target is _aten.new_empty.default:
            writes = _writes(node)
            if writes and _fill(node, writes):
                _join(graph, node, writes)


def _writes(node: Any) -> list[tuple[Any, Any]]:
    """The slices of ``node`` that something is copied into, and the copies."""
    writes = []
    for part in node.users:
        copies = list(part.users)
        is_slice = part.target is _aten.slice.Tensor and len(part.args) == 4
        if is_slice and len(copies) == 1 and copies[0].target is _aten.copy_.default:
            writes.append((part, copies[0]))
    return sorted(writes, key=lambda write: int(write[0].args[2]))


def _fill(node: Any, writes: list[tuple[Any, Any]]) -> bool:
    """Whether the parts lie end to end along one dim, fill it, and are written before any reading."""
    dim = writes[0][0].args[1]
    end = 0
    for part, _ in writes:
        if part.args[1] != dim or part.args[2] != end:
            return False
        end += part.meta["val"].shape[dim]
    parts, last = {part for part, _ in writes}, max(copy for _, copy in writes)
    readers = [user for user in node.users if user not in parts]
    is_whole = end == node.meta["val"].shape[dim]
    return bool(is_whole and all(reader > last for reader in readers))


def _join(graph: torch.fx.Graph, node: Any, writes: list[tuple[Any, Any]]) -> None:
    dim, sources = writes[0][0].args[1], [copy.args[1] for _, copy in writes]
    with graph.inserting_after(max(copy for _, copy in writes)):
        joined = call(graph, node, _aten.cat.default, sources, dim)
    for part, copy in writes:
        graph.erase_node(copy)
        graph.erase_node(part)
    node.replace_all_uses_with(joined)
    graph.erase_node(node)
