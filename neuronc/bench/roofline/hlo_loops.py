"""How often an HLO loop runs, where the program says so."""

import json
from typing import Any

from neuronc.targets.neuron.hlo.element_types import scalar_of


def trip_count(loop: Any, caller: Any, computations: dict[int, Any]) -> int | None:
    """Runs of the body of the ``while`` instruction ``loop`` in the computation ``caller``.

    From XLA's own note, or from a loop that counts by one from a constant up to a constant; None
    for any other.
    """
    try:
        noted = json.loads(loop.backend_config or b"{}").get("known_trip_count", {}).get("n")
    except (ValueError, AttributeError):  # other backends write other things there
        noted = None
    if noted is not None:
        return int(noted)
    body, condition = (computations[number] for number in loop.called_computation_ids)
    test = _root(condition)
    if test.opcode != "compare" or test.comparison_direction != "LT":
        return None
    counter, limit = (_instruction(condition, number) for number in test.operand_ids)
    if counter.opcode != "get-tuple-element" or limit.opcode != "constant":
        return None
    index = counter.tuple_index
    start = _element(caller, loop.operand_ids[0], index)
    if start is None or start.opcode != "constant" or not _counts_by_one(body, index):
        return None
    begin, end = scalar_of(start.literal), scalar_of(limit.literal)
    return None if begin is None or end is None else max(0, int(end - begin))


def _counts_by_one(body: Any, index: int) -> bool:
    step = _element(body, body.root_id, index)
    if step is None or step.opcode != "add":
        return False
    terms = [_instruction(body, number) for number in step.operand_ids]
    reads = [t for t in terms if t.opcode == "get-tuple-element" and t.tuple_index == index]
    ones = [t for t in terms if t.opcode == "constant" and scalar_of(t.literal) == 1]
    return bool(reads and ones)


def _element(computation: Any, number: int, index: int) -> Any | None:
    """The instruction that makes element ``index`` of the tuple ``number``; None if none is seen."""
    made = _instruction(computation, number)
    if made.opcode != "tuple":
        return None
    element = _instruction(computation, made.operand_ids[index])
    while element.opcode in ("copy", "reshape", "convert"):
        element = _instruction(computation, element.operand_ids[0])
    return element


def _root(computation: Any) -> Any:
    return _instruction(computation, computation.root_id)


def _instruction(computation: Any, number: int) -> Any:
    return next(i for i in computation.instructions if i.id == number)
