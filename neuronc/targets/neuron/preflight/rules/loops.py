"""Whether a loop's trip count can be read off the program."""

import json

from neuronc.targets.neuron.preflight.program import Operator, Program


def has_known_trip_count(loop: Operator, program: Program) -> bool:
    """True if XLA noted the count, or if a counter runs from a constant to a constant.

    The counter is one element of the loop's tuple: it starts as a constant, the condition compares
    it with a constant, and the body adds a constant.
    """
    if _noted_count(loop):
        return True
    called = program.called_by(loop)
    if len(called) != 2 or len(loop.operands) != 1:
        return False
    # HloInstructionProto lists the body before the condition; hand-made HLO may not.
    body, condition = sorted((c.root for c in called), key=lambda root: root.shape.dtype == "pred")
    index = _compared_element(condition)
    if index is None:
        return False
    start, step = _element(loop.operands[0], index), _element(body, index)
    return _is_constant(start) and _adds_constant(step, index)


def _noted_count(loop: Operator) -> bool:
    try:
        noted = json.loads(loop.message.backend_config or b"{}")
        return int(noted["known_trip_count"]["n"]) >= 0
    except (ValueError, KeyError, TypeError):
        return False


def _compared_element(condition: Operator) -> int | None:
    """Which element of the tuple is compared with a constant."""
    if condition.opcode != "compare" or len(condition.operands) != 2:
        return None
    constants = [_is_constant(operand) for operand in condition.operands]
    if sorted(constants) != [False, True]:
        return None
    read = condition.operands[constants.index(False)]
    return read.message.tuple_index if read.opcode == "get-tuple-element" else None


def _element(value: Operator, index: int) -> Operator | None:
    if value.opcode != "tuple" or not 0 <= index < len(value.operands):
        return None
    return value.operands[index]


def _is_constant(value: Operator | None) -> bool:
    while value is not None and value.opcode in ("copy", "convert", "reshape") and value.operands:
        value = value.operands[0]
    return value is not None and value.opcode == "constant"


def _adds_constant(step: Operator | None, index: int) -> bool:
    if step is None or step.opcode not in ("add", "subtract"):
        return False
    reads = [o for o in step.operands if o.opcode == "get-tuple-element"]
    others = [o for o in step.operands if _is_constant(o)]
    return len(reads) == len(others) == 1 and reads[0].message.tuple_index == index
