"""What the rewrites for XLA:CPU ask of StableHLO, and the constants that they write."""

from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo


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
