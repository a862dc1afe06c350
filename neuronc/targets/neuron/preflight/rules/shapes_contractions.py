"""Shapes of dot, reduce, gather and scatter."""

from collections.abc import Sequence

from neuronc.targets.neuron.preflight.program import Operator, Program, Shape
from neuronc.targets.neuron.preflight.rules.shapes_common import (
    Check,
    expect,
    expect_dims,
    expect_kind,
    kind,
    one_size,
    without,
)


def _dot(operator: Operator, _: Program) -> str | None:
    lhs, rhs = (operand.shape for operand in operator.operands)
    numbers = operator.message.dot_dimension_numbers
    batch = list(numbers.lhs_batch_dimensions), list(numbers.rhs_batch_dimensions)
    contracted = (
        list(numbers.lhs_contracting_dimensions),
        list(numbers.rhs_contracting_dimensions),
    )
    for left, right in (batch, contracted):
        sizes = [one_size(lhs.dims, dim) for dim in left]
        if sizes != [one_size(rhs.dims, dim) for dim in right]:
            return f"dot of {lhs} and {rhs} over dimensions {left} and {right}"
    expected = [
        *(lhs.dims[dim] for dim in batch[0]),
        *without(lhs.dims, batch[0] + contracted[0]),
        *without(rhs.dims, batch[1] + contracted[1]),
    ]
    return expect_dims(operator, expected)


def _reduce(operator: Operator, _: Program) -> str | None:
    half = len(operator.operands) // 2
    tensors = [operand.shape for operand in operator.operands[:half]]
    starts = [operand.shape for operand in operator.operands[half:]]
    if len(starts) != half or any(start.dims for start in starts):
        return f"reduce of {half} tensors starts with {', '.join(map(str, starts))}"
    dims = without(tensors[0].dims, list(operator.message.dimensions))
    results = operator.shape.parts if half > 1 else (operator.shape,)
    if [list(result.dims) for result in results] != [dims] * half:
        return f"reduce of {tensors[0]} over {list(operator.message.dimensions)} gives {dims}"
    return expect_kind(operator, tensors[0]) if half == 1 else None


def _index_dims(indices: Shape, vector_dim: int) -> tuple[list[int], int]:
    """Dims without the index vector's, and the vector's length."""
    if vector_dim == len(indices.dims):
        return list(indices.dims), 1
    return without(indices.dims, [vector_dim]), indices.dims[vector_dim]


def _interleave(window_dims: Sequence[int], window: list[int], rest: list[int]) -> list[int]:
    """``window`` at its dims of the result, ``rest`` between them."""
    dims = [*rest, *window]
    for dim in window_dims:
        one_size(dims, dim)
    windows, others = iter(window), iter(rest)
    return [next(windows) if dim in window_dims else next(others) for dim in range(len(dims))]


def _gather(operator: Operator, _: Program) -> str | None:
    table, indices = (operand.shape for operand in operator.operands)
    numbers, sizes = operator.message.gather_dimension_numbers, operator.message.gather_slice_sizes
    rest, length = _index_dims(indices, numbers.index_vector_dim)
    window = without(list(sizes), list(numbers.collapsed_slice_dims))
    offsets = list(numbers.offset_dims)
    fits = len(sizes) == len(table.dims) and len(window) == len(set(offsets)) == len(offsets)
    for dim in numbers.start_index_map:
        one_size(table.dims, dim)
    if not fits or length != len(numbers.start_index_map):
        return f"gather from {table} by {indices}: its dimension numbers do not fit"
    if any(part > whole for part, whole in zip(sizes, table.dims, strict=True)):
        return f"gather of {list(sizes)} at a time from {table}"
    expected = _interleave(offsets, window, rest)
    return expect_dims(operator, expected) or expect_kind(operator, table)


def _scatter(operator: Operator, _: Program) -> str | None:
    count = len(operator.operands) // 2
    if len(operator.operands) != 2 * count + 1:
        return f"scatter cannot have {len(operator.operands)} operands"
    target, indices = operator.operands[0].shape, operator.operands[count].shape
    update, numbers = operator.operands[count + 1].shape, operator.message.scatter_dimension_numbers
    rest, length = _index_dims(indices, numbers.index_vector_dim)
    room = without(target.dims, list(numbers.inserted_window_dims))
    window = [one_size(update.dims, dim) for dim in numbers.update_window_dims]
    for dim in numbers.scatter_dims_to_operand_dims:
        one_size(target.dims, dim)
    fits = length == len(numbers.scatter_dims_to_operand_dims) and len(window) == len(room)
    if not fits or without(update.dims, list(numbers.update_window_dims)) != rest:
        return f"scatter of {update} by {indices} into {target}: its dimensions do not fit"
    if any(part > whole for part, whole in zip(window, room, strict=True)):
        return f"scatter of {update} into {target}"
    if count > 1:
        return None
    if kind(update) != kind(target):
        return f"scatter of {update.dtype} into {target.dtype}"
    return expect(operator, target)


CHECKS: dict[str, tuple[range, Check]] = {
    "dot": (range(2, 3), _dot),
    "reduce": (range(2, 2**31), _reduce),
    "gather": (range(2, 3), _gather),
    "scatter": (range(3, 2**31), _scatter),
}
