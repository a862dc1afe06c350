"""Shapes of operators that work element by element."""

from neuronc.targets.neuron.preflight.program import Operator, Program
from neuronc.targets.neuron.preflight.rules.shapes_common import Check, expect, expect_dims, kind

_UNARY = """
    abs cbrt ceil copy cosine count-leading-zeros erf exponential exponential-minus-one floor log
    log-plus-one logistic negate not popcnt reverse round-nearest-afz round-nearest-even rsqrt sign
    sine sqrt tan tanh
"""
_BINARY = "add and atan2 divide maximum minimum multiply or power remainder subtract xor"
_SHIFTS = "shift-left shift-right-arithmetic shift-right-logical"
_COMPLEX = ("c64", "c128")


def _unary(operator: Operator, _: Program) -> str | None:
    operand = operator.operands[0].shape
    if operand.dtype in _COMPLEX:  # abs of a complex number is real
        return expect_dims(operator, operand.dims)
    if operand.dtype == "tuple":  # copy takes them as well
        return None if operator.shape == operand else f"{operator.opcode} changes {operand}"
    return expect(operator, operand)


def _convert(operator: Operator, _: Program) -> str | None:
    return expect_dims(operator, operator.operands[0].shape.dims)


def _binary(operator: Operator, _: Program) -> str | None:
    return _meet(operator) or expect(operator, operator.operands[0].shape)


def _meet(operator: Operator) -> str | None:
    one, other = (operand.shape for operand in operator.operands)
    if one.dims == other.dims and kind(one) == kind(other):
        return None
    return f"{operator.opcode} of {one} and {other}"


def _shift(operator: Operator, _: Program) -> str | None:
    one, other = (operand.shape for operand in operator.operands)
    if one.dims != other.dims:
        return f"{operator.opcode} of {one} and {other}"
    return expect(operator, one)


def _compare(operator: Operator, _: Program) -> str | None:
    return _meet(operator) or _truth(operator)


def _is_finite(operator: Operator, _: Program) -> str | None:
    return _truth(operator)


def _truth(operator: Operator) -> str | None:
    if operator.shape.dtype != "pred":
        return f"{operator.opcode} gives pred, it says {operator.shape.dtype}"
    return expect_dims(operator, operator.operands[0].shape.dims)


def _select(operator: Operator, _: Program) -> str | None:
    choice, one, other = (operand.shape for operand in operator.operands)
    fits = choice.dtype == "pred" and choice.dims in ((), one.dims)
    if not fits or one.dims != other.dims or kind(one) != kind(other):
        return f"select by {choice} between {one} and {other}"
    return expect(operator, one)


def _clamp(operator: Operator, _: Program) -> str | None:
    low, value, high = (operand.shape for operand in operator.operands)
    for bound in (low, high):
        if bound.dims not in ((), value.dims) or kind(bound) != kind(value):
            return f"clamp of {value} by {bound}"
    return expect(operator, value)


def _table(names: str, operands: int, check: Check) -> dict[str, tuple[range, Check]]:
    return {name: (range(operands, operands + 1), check) for name in names.split()}


CHECKS = {
    **_table(_UNARY, 1, _unary),
    **_table("convert", 1, _convert),
    **_table("is-finite", 1, _is_finite),
    **_table(_BINARY, 2, _binary),
    **_table(_SHIFTS, 2, _shift),
    **_table("compare", 2, _compare),
    **_table("select", 3, _select),
    **_table("clamp", 3, _clamp),
}
