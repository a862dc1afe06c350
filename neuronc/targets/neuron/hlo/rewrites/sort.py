"""Sorting by counting: an element's place is the number of elements that come before it."""

from collections.abc import Sequence
from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.element_types import FLOATS, PRED, S32, is_integer, name_of
from neuronc.targets.neuron.hlo.rewrites.builder import Builder, describe
from neuronc.targets.neuron.hlo.rewrites.ordering import Order, emit_keys, recognise_order

MAX_SORTED = 1024
"""Longest axis that is sorted: memory and work grow with its square."""


def rewrite_sort(builder: Builder, instruction: Any) -> Any:
    """The rule for ``sort``: one key in any order, any number of operands that go with it.

    Equal keys stay in the order they came in, which an unstable sort allows as well. Cost: two
    tensors of ``size`` times the operand's elements, for an axis of ``size``.

    Raises:
        CompilerError: the axis is too long, or the comparator is not by one key.
    """
    if instruction.opcode != "sort":
        return None
    operands = builder.operands(instruction)
    dim = instruction.dimensions[0]
    size = operands[0].shape.dimensions[dim]
    if size > MAX_SORTED:
        message = f"HLO sorts an axis of {size}, at most {MAX_SORTED}: {describe(instruction)}"
        hint = "neuronx-cc has no sort; take the top k (64 at most), or sort on the host"
        raise CompilerError(message, hint=hint)
    key, order = order_of(builder, instruction)
    parts = emit_sorted(builder, operands, operands[key], dim, order)
    return parts[0] if len(parts) == 1 else builder.tuple_of(*parts)


def emit_sorted(
    builder: Builder, operands: Sequence[Any], key: Any, dim: int, order: Order
) -> list[Any]:
    """``operands`` along ``dim`` as ``key``, one of them or not, has to go to be in ``order``."""
    goes_to = _emit_order(builder, key, dim, order)
    return [take(builder, goes_to, operand, dim) for operand in operands]


def order_of(builder: Builder, sort: Any) -> tuple[int, Order]:
    """The key and the order of a ``sort``; a `CompilerError` if it is not by one key."""
    dtypes = tuple(operand.shape.element_type for operand in builder.operands(sort))
    found = recognise_order(builder.computation(sort.called_computation_ids[0]), dtypes)
    if found is None:
        message = f"HLO sorts by something else than one key: {describe(sort)}"
        raise CompilerError(message, hint="neuronx-cc has no sort; sort by one key at a time")
    return found


def take(builder: Builder, chosen: Any, x: Any, dim: int) -> Any:
    """The one element of ``x`` along ``dim`` that ``chosen`` marks, exactly.

    ``chosen`` is of the shape of ``x``, or has one dim more: then that one, the last, is the dim
    that is chosen from, and ``dim`` numbers the choices.

    A sum of that element and zeros; minus zero, since it leaves even a minus zero as it is.
    """
    dims, rank = list(chosen.shape.dimensions), len(x.shape.dimensions)
    dtype = x.shape.element_type
    if not (dtype == PRED or dtype in FLOATS or is_integer(dtype)):
        message = f"HLO sorts a tensor of {name_of(dtype)}"
        raise CompilerError(message, hint="report the model's family")
    along = dim
    if len(dims) > rank:
        along = rank
        x = builder.spread(x, dims, [along if n == dim else n for n in range(rank)])
    if dtype == PRED:
        x = builder.convert(x, S32)
    nothing = -0.0 if dtype in FLOATS else 0
    rest = builder.full(x.shape.element_type, dims, nothing)
    one = builder.reduce("add", builder.elementwise("select", chosen, x, rest), along, nothing)
    if dtype == PRED:
        one = builder.compare(one, "NE", builder.full(S32, one.shape.dimensions, 0))
    return one


def _emit_order(builder: Builder, x: Any, dim: int, order: Order) -> Any:
    """Truth values ``[..., p, ..., i]``: the element ``i`` of ``dim`` goes to place ``p``."""
    dims = list(x.shape.dimensions)
    rank, size = len(dims), dims[dim]
    wide = [*dims, size]
    as_here = list(range(rank))
    as_other = [rank if n == dim else n for n in as_here]
    key, place = emit_keys(builder, x, dim, order)
    here, other = builder.spread(key, wide, as_here), builder.spread(key, wide, as_other)
    sooner = builder.compare(
        builder.spread(place, wide, as_other), "LT", builder.spread(place, wide, as_here)
    )
    better = builder.compare(other, "GT" if order.descending else "LT", here)
    before = builder.elementwise("select", builder.compare(other, "EQ", here), sooner, better)
    ones, zeros = builder.full(S32, wide, 1), builder.full(S32, wide, 0)
    rank_of = builder.reduce("add", builder.elementwise("select", before, ones, zeros), rank, 0)
    goes_to = builder.spread(rank_of, wide, as_other)
    return builder.compare(goes_to, "EQ", builder.iota(S32, wide, dim))
