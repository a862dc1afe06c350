"""Runs a computation of scalars that only compares and chooses, as comparators do.

Such a computation sees nothing of its arguments but their order. So its results for one value of
each kind, and two where values of a kind can differ, tell all that it does: a proof, not a sample.
"""

import math
import operator
import struct
from collections.abc import Callable, Mapping
from typing import Any

from neuronc.targets.neuron.hlo.element_types import BF16, F16, F32, F64, FLOATS, scalar_of

INF, NAN = math.inf, math.nan
FINITE = (-INF, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0, INF)
"""One or two floats of each kind that a comparator can tell apart, NaN aside."""

_WIDER = {(F16, F32), (BF16, F32), (F16, F64), (BF16, F64), (F32, F64)}


class NotComparing(Exception):
    """The computation does more than compare and choose."""


def run_scalars(computation: Any, arguments: Mapping[int, Any]) -> Any:
    """The result of ``computation``: a value, or a tuple of them.

    ``arguments`` has the parameters that the result depends on, by number.

    Raises:
        NotComparing: it has an operator or a constant that this module does not know.
    """
    values: dict[int, Any] = {}
    for instruction in computation.instructions:
        operands = [values[number] for number in instruction.operand_ids]
        values[instruction.id] = _value(instruction, operands, arguments, computation)
    return values[computation.root_id]


def read_parameters(computation: Any) -> set[int]:
    """Numbers of the parameters that the result depends on."""
    by_id = {instruction.id: instruction for instruction in computation.instructions}
    seen: set[int] = set()
    todo = [computation.root_id]
    while todo:
        number = todo.pop()
        if number not in seen:
            seen.add(number)
            todo += by_id[number].operand_ids
    return {by_id[n].parameter_number for n in seen if by_id[n].opcode == "parameter"}


def _value(instruction: Any, operands: list[Any], arguments: Mapping[int, Any], where: Any) -> Any:
    match instruction.opcode:
        case "parameter":
            return arguments.get(instruction.parameter_number)
        case "constant":
            return _constant(instruction)
        case "compare":
            return _compare(instruction, *operands)
        case "convert" if _widens(instruction, where):
            return operands[0]
        case opcode if opcode in _CHOOSE:
            return _CHOOSE[opcode](operands)
    raise NotComparing(instruction.opcode)


def _constant(instruction: Any) -> float:
    """A float constant that is a kind of its own; any other would divide a kind in two."""
    value = scalar_of(instruction.literal)
    dtype = instruction.shape.element_type
    if value is None or dtype not in FLOATS or not (value == 0 or not math.isfinite(value)):
        raise NotComparing(instruction.opcode)
    return value


def _compare(instruction: Any, a: Any, b: Any) -> bool:
    if instruction.comparison_type == "TOTALORDER" and isinstance(a, float):
        a, b = _total_order(a), _total_order(b)
    return bool(_DIRECTIONS[instruction.comparison_direction](a, b))


def _total_order(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0]
    return bits if bits >= 0 else -(2**63) - 1 - bits


def _widens(instruction: Any, where: Any) -> bool:
    source = next(i for i in where.instructions if i.id == instruction.operand_ids[0])
    return (source.shape.element_type, instruction.shape.element_type) in _WIDER


def _truths(operands: list[Any]) -> list[bool]:
    if not all(isinstance(operand, bool) for operand in operands):
        told = "an operator on bits"
        raise NotComparing(told)
    return operands


def _extreme(choose: Callable[..., Any], operands: list[Any]) -> Any:
    return NAN if any(math.isnan(operand) for operand in operands) else choose(operands)


_DIRECTIONS = {
    "EQ": operator.eq,
    "NE": operator.ne,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
}
_CHOOSE: dict[str, Callable[[list[Any]], Any]] = {
    "select": lambda operands: operands[1] if operands[0] else operands[2],
    "and": lambda operands: all(_truths(operands)),
    "or": lambda operands: any(_truths(operands)),
    "not": lambda operands: not _truths(operands)[0],
    "maximum": lambda operands: _extreme(max, operands),
    "minimum": lambda operands: _extreme(min, operands),
    "tuple": tuple,
    "copy": lambda operands: operands[0],
}
