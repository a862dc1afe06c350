"""Writes complex numbers out as pairs of real ones: no Neuron device has them.

Some families rotate positions by complex multiplication. A complex ``[...]`` becomes ``[..., 2]``.
"""

from typing import Any

import torch

from neuronc.lower.fx_nodes import call

_aten = torch.ops.aten
_NAMELESS = (_aten.view_as_complex.default, _aten.view_as_real.default)
_CIRCLE = (_aten.cos.default, _aten.sin.default)
_SAME = (_aten.to.dtype_layout, _aten.to.device, _aten.alias.default, _aten.to.dtype)


def write_out_complex(graph: torch.fx.Graph) -> None:
    """Rewrite ``graph`` in place, as far as its complex operators are known here."""
    pairs: dict[Any, Any] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is _aten.view_as_real.default and node.args[0] in pairs:
            node.replace_all_uses_with(pairs[node.args[0]])
        elif _is_complex(node):
            with graph.inserting_before(node):
                written = _write(graph, node, pairs)
            if written is not None:
                pairs[node] = written
    for node in reversed(list(graph.nodes)):
        done = node in pairs or (node.target in _NAMELESS and not node.users)
        if done and not node.users:
            graph.erase_node(node)


def _is_complex(node: Any) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_complex()


def _write(graph: torch.fx.Graph, node: Any, pairs: dict[Any, Any]) -> Any:
    """The pair that ``node`` stands for; None if it is not known here."""

    def do(target: Any, *args: Any) -> Any:
        return call(graph, node, target, *args)

    first = node.args[0] if node.args else None
    written: Any = None
    if node.target is _aten.view_as_complex.default:
        written = first
    elif node.target is _aten.polar.default:
        size, angle = node.args
        parts = [do(_aten.mul.Tensor, size, do(part, angle)) for part in _CIRCLE]
        written = do(_aten.stack.default, parts, -1)
    elif first in pairs and node.target in _SAME:
        written = pairs[first]
    elif first in pairs and node.target is _aten.unsqueeze.default:
        dim = node.args[1]
        written = do(_aten.unsqueeze.default, pairs[first], dim if dim >= 0 else dim - 1)
    elif first in pairs and node.target is _aten.mul.Tensor:
        other = node.args[1]
        written = _product(do, pairs[first], pairs.get(other, other))
    return written


def _product(do: Any, pair: Any, other: Any) -> Any:
    """``(a + bi) (c + di)``; ``other`` may be a real number."""
    if not isinstance(other, torch.fx.Node):
        return do(_aten.mul.Tensor, pair, other)
    a, b = (do(_aten.select.int, pair, -1, part) for part in (0, 1))
    c, d = (do(_aten.select.int, other, -1, part) for part in (0, 1))
    real = do(_aten.sub.Tensor, do(_aten.mul.Tensor, a, c), do(_aten.mul.Tensor, b, d))
    imaginary = do(_aten.add.Tensor, do(_aten.mul.Tensor, a, d), do(_aten.mul.Tensor, b, c))
    return do(_aten.stack.default, [real, imaginary], -1)
