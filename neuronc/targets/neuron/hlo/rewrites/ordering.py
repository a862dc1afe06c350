"""The order that a sort's comparator means, and keys that give it with plain comparisons."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from neuronc.targets.neuron.hlo.element_types import F32, FLOATS, PRED, S32, is_integer
from neuronc.targets.neuron.hlo.rewrites.builder import Builder
from neuronc.targets.neuron.hlo.rewrites.scalar_code import (
    FINITE,
    INF,
    NAN,
    NotComparing,
    read_parameters,
    run_scalars,
)

Sign = Literal["none", "negative", "positive", "both"]
_NEGATIVE_NAN = math.copysign(NAN, -1.0)
_Before = Callable[[Any, Any], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One key's order; what is equal stays in the order it came in.

    Attributes:
        first_nan: Sign of the NaNs that come before all else; the others come after all else.
        late_zero: Sign of the zeros that come after those of the other sign, if any do.
    """

    descending: bool
    first_nan: Sign = "none"
    late_zero: Sign = "none"


TOTAL_DESCENDING = Order(descending=True, first_nan="positive", late_zero="negative")
"""IEEE's total order, from the top: what XLA's top-k means."""

TOTAL_ASCENDING = Order(descending=False, first_nan="negative", late_zero="positive")
"""The same from the bottom."""


def recognise_order(comparator: Any, dtypes: tuple[int, ...]) -> tuple[int, Order] | None:
    """Which operand of a sort is its key, and in which order; None for any other comparator.

    A comparator that says nothing about NaN (plain ``<``) has them last when ascending and first
    when descending, as torch has it.
    """
    read = read_parameters(comparator)
    key = min(read, default=0) // 2
    if read != {2 * key, 2 * key + 1}:
        return None

    def before(a: Any, b: Any) -> bool:
        return bool(run_scalars(comparator, {2 * key: a, 2 * key + 1: b}))

    try:
        order = _order_of(lambda a, b: before(a, b) and not before(b, a), dtypes[key])
    except NotComparing:
        return None
    return None if order is None else (key, order)


def _order_of(before: _Before, dtype: int) -> Order | None:
    if dtype in FLOATS:
        values: tuple[Any, ...] = FINITE
    elif dtype == PRED or is_integer(dtype):
        values = (False, True) if dtype == PRED else (0, 1)
    else:
        return None
    pairs = [(a, b) for a in values for b in values if a != b]
    if all(before(a, b) == (a < b) for a, b in pairs):
        descending = False
    elif all(before(a, b) == (a > b) for a, b in pairs):
        descending = True
    else:
        return None
    if dtype not in FLOATS:
        return Order(descending=descending)
    first_nan = _first_nan(before, descending=descending)
    late_zero: Sign = "negative" if before(0.0, -0.0) else "none"
    late_zero = "positive" if before(-0.0, 0.0) else late_zero
    if first_nan is None:
        return None
    return Order(descending=descending, first_nan=first_nan, late_zero=late_zero)


def _first_nan(before: _Before, *, descending: bool) -> Sign | None:
    ends = [_end_of_nan(before, nan) for nan in (NAN, _NEGATIVE_NAN)]
    if ends == ["free", "free"]:
        return "both" if descending else "none"
    if before(NAN, _NEGATIVE_NAN) != (ends == ["first", "last"]):
        return None
    if before(_NEGATIVE_NAN, NAN) != (ends == ["last", "first"]):
        return None
    signs: dict[tuple[str, str], Sign] = {
        ("first", "first"): "both",
        ("first", "last"): "positive",
        ("last", "first"): "negative",
        ("last", "last"): "none",
    }
    return signs.get((ends[0], ends[1]))


def _end_of_nan(before: _Before, nan: float) -> str:
    if all(before(nan, value) for value in FINITE):
        return "first"
    if all(before(value, nan) for value in FINITE):
        return "last"
    free = not any(before(value, nan) or before(nan, value) for value in FINITE)
    return "free" if free else "mixed"


def emit_keys(builder: Builder, x: Any, dim: int, order: Order) -> tuple[Any, Any]:
    """Two tensors like ``x``: by the first, then by the second ascending, is ``order``.

    The first has no NaN. The second is the position along ``dim`` (s32), less or more the size of
    ``dim`` where the order puts an element before or after those of an equal first key.
    """
    dims, dtype = list(x.shape.dimensions), x.shape.element_type
    place = builder.iota(S32, dims, dim)
    if dtype not in FLOATS:
        return (builder.convert(x, S32) if dtype == PRED else x), place
    size = builder.full(S32, dims, dims[dim])
    sooner = builder.elementwise("subtract", place, size)
    later = builder.elementwise("add", place, size)
    nan = builder.compare(x, "NE", x)
    first = _of_sign(builder, nan, x, order.first_nan)
    top, bottom = (INF, -INF) if order.descending else (-INF, INF)
    if order.late_zero != "none":
        zero = builder.compare(x, "EQ", builder.full(dtype, dims, 0.0))
        late = _of_sign(builder, zero, x, order.late_zero)
        place = builder.elementwise("select", late, later, place)
    key = builder.elementwise("select", nan, builder.full(dtype, dims, bottom), x)
    place = builder.elementwise("select", nan, later, place)
    if first is not None:
        key = builder.elementwise("select", first, builder.full(dtype, dims, top), key)
        place = builder.elementwise("select", first, sooner, place)
    return key, place


def emit_positions(builder: Builder, place: Any, size: int) -> Any:
    """The positions that ``place``, the second key, was made from."""
    dims = place.shape.dimensions
    shift = builder.full(S32, dims, size)
    negative = builder.compare(place, "LT", builder.full(S32, dims, 0))
    place = builder.elementwise("select", negative, builder.elementwise("add", place, shift), place)
    high = builder.compare(place, "LT", shift)
    less = builder.elementwise("subtract", place, shift)
    return builder.elementwise("select", high, place, less)


def _of_sign(builder: Builder, mask: Any, x: Any, sign: Sign) -> Any:
    """The elements of ``mask`` where ``x`` is of ``sign``; None for no element at all."""
    if sign in ("none", "both"):
        return mask if sign == "both" else None
    bits = builder.emit("bitcast-convert", S32, x.shape.dimensions, builder.convert(x, F32))
    zero = builder.full(S32, x.shape.dimensions, 0)
    direction = "LT" if sign == "negative" else "GE"
    return builder.elementwise("and", mask, builder.compare(bits, direction, zero))
