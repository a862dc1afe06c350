"""Shapes that are not static (EMOD025) or do not follow from the operands (EVRF064).

Only operators whose rule is certain are looked at. Floats of different width may meet, as XLA's
mixed precision allows; integers may not.
"""

from collections.abc import Callable, Mapping

from neuronc.targets.neuron.preflight.program import Operator, Program, Shape, read_shape
from neuronc.targets.neuron.preflight.rules import (
    shapes_calls,
    shapes_contractions,
    shapes_elementwise,
    shapes_layout,
)
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, ProgramRule, Rule

_CHECKS: Mapping[str, tuple[range, Callable[[Operator, Program], str | None]]] = {
    **shapes_elementwise.CHECKS,
    **shapes_layout.CHECKS,
    **shapes_contractions.CHECKS,
    **shapes_calls.CHECKS,
}


def wrong_shape(operator: Operator, context: Context) -> Problem | None:
    """Operand count first, then the shape."""
    counts, check = _CHECKS[operator.opcode]
    found = len(operator.operands)
    if found not in counts:
        return Problem(f"{operator.opcode} cannot have {found} operands")
    try:
        text = check(operator, context.program)
    except IndexError:
        text = f"{operator.opcode} names a dimension that its operands do not have"
    return None if text is None else Problem(text)


def dynamic_shape(operator: Operator, _: Context) -> Problem | None:
    """Bounded and unbounded alike."""
    if any(leaf.dynamic for leaf in operator.shape.leaves):
        return Problem(f"its shape {operator.shape} is not static")
    return None


def wrong_signature(context: Context) -> Problem | None:
    """Parameters and result of the entry, against what the module says of them."""
    entry = context.program.entry
    if entry.program_shape is None:
        return None
    given = {
        operator.message.parameter_number: operator.shape
        for operator in entry.operators
        if operator.opcode == "parameter"
    }
    declared = dict(enumerate(read_shape(shape) for shape in entry.program_shape.parameters))
    for number in sorted(given.keys() | declared.keys()):
        one, other = given.get(number), declared.get(number)
        if not _alike(one, other):
            return Problem(f"parameter {number} is {one}, the program's signature says {other}")
    result = read_shape(entry.program_shape.result)
    if not _alike(entry.root.shape, result):
        return Problem(f"the result is {entry.root.shape}, the program's signature says {result}")
    return None


def _alike(one: Shape | None, other: Shape | None) -> bool:
    return one is not None and one == other


RULES = (
    Rule(codes=("EMOD025",), check=dynamic_shape),
    Rule(codes=("EVRF064",), check=wrong_shape, opcodes=tuple(_CHECKS)),
)
PROGRAM_RULES = (ProgramRule(codes=("EVRF064",), check=wrong_signature),)
