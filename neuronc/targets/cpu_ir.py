"""What the rewrites for XLA:CPU ask of StableHLO, and the constants that they write."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo


def main_of(module: ir.Module) -> Any:
    """The function ``main`` of a program."""
    return next(op for op in module.body.operations if op.name.value == "main")


def name_of(value: Any) -> str:
    """Of the StableHLO operation that makes ``value``; empty for an input and for other dialects."""
    dialect, _, name = str(getattr(value.owner, "name", "")).partition(".")
    return name if dialect == "stablehlo" else ""


def shape_of(value: Any) -> list[int]:
    """Of a tensor."""
    return [int(size) for size in value.type.shape]


def dims_of(op: Any, kind: str) -> tuple[list[int], list[int]]:
    """The ``batching`` or ``contracting`` dims of both operands of a ``dot_general``."""
    numbers = hlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    left, right = (getattr(numbers, f"{side}_{kind}_dimensions") for side in ("lhs", "rhs"))
    return list(left), list(right)


def full(kind: Any, value: Any) -> Any:
    """A constant of the tensor type ``kind`` whose elements are all the attribute ``value``."""
    return hlo.constant(ir.DenseElementsAttr.get_splat(kind, value))


def i32(value: int) -> Any:
    """A constant scalar."""
    kind = ir.IntegerType.get_signless(32)
    return full(ir.RankedTensorType.get([], kind), ir.IntegerAttr.get(kind, value))


def zeros(kind: Any) -> Any:
    """A constant of the tensor type ``kind``."""
    element = kind.element_type
    is_integer = isinstance(element, ir.IntegerType)
    zero = ir.IntegerAttr.get(element, 0) if is_integer else ir.FloatAttr.get(element, 0.0)
    return full(kind, zero)


def part_of(
    tensor: Any, begins: Sequence[int], ends: Sequence[int], steps: Sequence[int] | None = None
) -> Any:
    """A slice of ``tensor``."""
    bounds = (begins, ends, steps or [1] * len(begins))
    return hlo.slice(tensor, *(ir.DenseI64ArrayAttr.get(list(bound)) for bound in bounds))


def scalar_at(tensor: Any, place: Sequence[int]) -> Any:
    """One element of ``tensor``, as a scalar."""
    one = part_of(tensor, place, [dim + 1 for dim in place])
    return hlo.reshape(ir.RankedTensorType.get([], tensor.type.element_type), one)


def is_one_slot(op: Any) -> bool:
    """Whether ``op`` gathers one slot of a cache ``[slots, ...]``: ``[1, ...]``."""
    if op.name != "stablehlo.gather":
        return False
    cache, slot = op.operands
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    taken = (numbers.collapsed_slice_dims, numbers.start_index_map)
    is_of_slots = all(list(dims) == [0] for dims in taken) and shape_of(slot) == [1]
    return is_of_slots and shape_of(op.results[0]) == [1, *shape_of(cache)[1:]]


def apart(x: Any) -> Any:
    """f32 ``x``, which XLA computes before what reads it, a loop over a weight say.

    It fuses into such a loop what is before it, but no division, and it moves a reshape down
    to a product unless numbers of another shape come in between. Either would be done again for
    every element of the loop. What divides here is one, and XLA does not find out.
    It is another number for every place, as far as XLA knows: what is the same along a dim XLA would
    turn into a factor, and that is fused.
    """
    kind = ir.IntegerType.get_signless(32)
    places = ir.RankedTensorType.get(x.type.shape, kind)
    counted = reduce(hlo.add, [_counted(places, dim) for dim in range(len(x.type.shape))])
    end = full(places, ir.IntegerAttr.get(kind, 2**31 - 1))
    inside = hlo.compare(counted, end, hlo.ComparisonDirectionAttr.get("LT"))
    one, two = (full(x.type, ir.FloatAttr.get(ir.F32Type.get(), number)) for number in (1.0, 2.0))
    return hlo.divide(x, hlo.select(inside, one, two))


def _counted(places: Any, dim: int) -> Any:
    return hlo.iota(places, ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim))


def widen(tensor: Any) -> Any:
    """``tensor`` in f32."""
    wide = ir.RankedTensorType.get(tensor.type.shape, ir.F32Type.get())
    if tensor.type == wide:
        return tensor
    return hlo.convert(wide, tensor)
