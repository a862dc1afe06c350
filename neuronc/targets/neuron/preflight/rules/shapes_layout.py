"""Shapes of operators that move elements, or make them up."""

from math import prod

from neuronc.targets.neuron.preflight.program import Operator, Program
from neuronc.targets.neuron.preflight.rules.shapes_common import (
    ANY_NUMBER,
    Check,
    expect,
    expect_dims,
    expect_kind,
    kind,
    one_size,
)


def _broadcast(operator: Operator, _: Program) -> str | None:
    operand, mapped = operator.operands[0].shape, list(operator.message.dimensions)
    fits = len(mapped) == len(operand.dims) == len(set(mapped))
    result = operator.shape.dims
    if not fits or [one_size(result, dim) for dim in mapped] != list(operand.dims):
        return f"broadcast of {operand} along {mapped} cannot give {operator.shape}"
    return expect_kind(operator, operand)


def _reshape(operator: Operator, _: Program) -> str | None:
    operand = operator.operands[0].shape
    if prod(operand.dims) != prod(operator.shape.dims):
        return f"reshape of {operand} cannot give {operator.shape}"
    return expect_kind(operator, operand)


def _transpose(operator: Operator, _: Program) -> str | None:
    operand, order = operator.operands[0].shape, list(operator.message.dimensions)
    if sorted(order) != list(range(len(operand.dims))):
        return f"transpose of {operand} in the order {order}"
    return expect_dims(operator, [operand.dims[dim] for dim in order]) or expect_kind(
        operator, operand
    )


def _slice(operator: Operator, _: Program) -> str | None:
    operand, cuts = operator.operands[0].shape, operator.message.slice_dimensions
    if len(cuts) != len(operand.dims):
        return f"slice of {operand} in {len(cuts)} dimensions"
    dims = []
    for size, cut in zip(operand.dims, cuts, strict=True):
        if not (0 <= cut.start <= cut.limit <= size and cut.stride >= 1):
            return f"slice of {operand} from {cut.start} to {cut.limit} by {cut.stride}"
        dims.append((cut.limit - cut.start + cut.stride - 1) // cut.stride)
    return expect_dims(operator, dims) or expect_kind(operator, operand)


def _concatenate(operator: Operator, _: Program) -> str | None:
    shapes = [operand.shape for operand in operator.operands]
    if len(operator.message.dimensions) != 1:
        return "concatenate needs one dimension"
    joined, first = operator.message.dimensions[0], shapes[0]
    total = sum(one_size(shape.dims, joined) for shape in shapes)
    expected = (*first.dims[:joined], total, *first.dims[joined + 1 :])
    for shape in shapes[1:]:
        rest = (*shape.dims[:joined], total, *shape.dims[joined + 1 :])
        if rest != expected or kind(shape) != kind(first):
            return f"concatenate of {first} and {shape} along {joined}"
    return expect_dims(operator, expected) or expect_kind(operator, first)


def _pad(operator: Operator, _: Program) -> str | None:
    operand, sides = operator.operands[0].shape, operator.message.padding_config.dimensions
    if len(sides) != len(operand.dims) or operator.operands[1].shape.dims:
        return f"pad of {operand} in {len(sides)} dimensions by {operator.operands[1].shape}"
    dims = [
        size
        + side.edge_padding_low
        + side.edge_padding_high
        + max(size - 1, 0) * side.interior_padding
        for size, side in zip(operand.dims, sides, strict=True)
    ]
    return expect_dims(operator, dims) or expect_kind(operator, operand)


def _iota(operator: Operator, _: Program) -> str | None:
    if len(operator.message.dimensions) != 1:
        return "iota needs one dimension"
    one_size(operator.shape.dims, operator.message.dimensions[0])
    return None


def _dynamic_slice(operator: Operator, _: Program) -> str | None:
    operand, sizes = operator.operands[0].shape, list(operator.message.dynamic_slice_sizes)
    wrong = _starts(operator, 1)
    if wrong:
        return wrong
    if len(sizes) != len(operand.dims) or any(
        not 0 <= size <= whole for size, whole in zip(sizes, operand.dims, strict=True)
    ):
        return f"dynamic-slice of {sizes} out of {operand}"
    return expect_dims(operator, sizes) or expect_kind(operator, operand)


def _dynamic_update_slice(operator: Operator, _: Program) -> str | None:
    operand, update = (o.shape for o in operator.operands[:2])
    wrong = _starts(operator, 2)
    if wrong:
        return wrong
    if len(update.dims) != len(operand.dims) or any(
        part > whole for part, whole in zip(update.dims, operand.dims, strict=True)
    ):
        return f"dynamic-update-slice of {update} into {operand}"
    return expect(operator, operand)


def _starts(operator: Operator, first: int) -> str | None:
    """One scalar per dimension, or one vector of them, as older HLO has it."""
    starts = [operand.shape.dims for operand in operator.operands[first:]]
    rank = len(operator.operands[0].shape.dims)
    if starts == [()] * rank or starts == [(rank,)]:
        return None
    return f"{operator.opcode} starts at {len(starts)} positions, it has {rank} dimensions"


def _constant(operator: Operator, _: Program) -> str | None:
    message = operator.message
    if not message.HasField("literal"):
        return None
    literal = message.literal.shape
    if (
        literal.element_type == message.shape.element_type
        and tuple(literal.dimensions) == operator.shape.dims
    ):
        return None
    return f"constant of {list(literal.dimensions)}, it says {operator.shape}"


CHECKS: dict[str, tuple[range, Check]] = {
    "broadcast": (range(1, 2), _broadcast),
    "reshape": (range(1, 2), _reshape),
    "transpose": (range(1, 2), _transpose),
    "slice": (range(1, 2), _slice),
    "concatenate": (ANY_NUMBER, _concatenate),
    "pad": (range(2, 3), _pad),
    "iota": (range(1), _iota),
    "dynamic-slice": (ANY_NUMBER, _dynamic_slice),
    "dynamic-update-slice": (range(2, 2**31), _dynamic_update_slice),
    "constant": (range(1), _constant),
}
