"""Put the computations that an HLO entry calls in the place of the calls."""

from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.dataflow import fold_tuple_reads


def inline_calls(module: Any) -> None:
    """Leave no ``call`` in the entry of ``module``; what nothing calls any more is dropped.

    Reads of a tuple that is at hand become its element.

    Raises:
        CompilerError: computations call each other without end.
    """
    entry = entry_of(module)
    for _ in range(len(module.computations)):
        if not _inline_once(module, entry):
            break
    else:
        message = "HLO computations call each other in a ring"
        raise CompilerError(message, hint="report the model's family")
    fold_tuple_reads(entry)
    drop_uncalled(module)


def entry_of(module: Any) -> Any:
    """The computation that ``module`` runs."""
    return next(c for c in module.computations if c.id == module.entry_computation_id)


def _inline_once(module: Any, entry: Any) -> bool:
    """Replace every call in ``entry`` by what it calls; False if there was none."""
    if not any(instruction.opcode == "call" for instruction in entry.instructions):
        return False
    by_id = {computation.id: computation for computation in module.computations}
    old = list(entry.instructions)
    fresh = _Numbers(max(i.id for c in module.computations for i in c.instructions))
    moved: dict[int, int] = {}
    del entry.instructions[:]
    for instruction in old:
        for ids in (instruction.operand_ids, instruction.control_predecessor_ids):
            ids[:] = [moved.get(number, number) for number in ids]
        if instruction.opcode == "call":
            callee = by_id[instruction.called_computation_ids[0]]
            moved[instruction.id] = _copy_body(callee, instruction, entry, fresh)
        else:
            entry.instructions.append(instruction)
    entry.root_id = moved.get(entry.root_id, entry.root_id)
    return True


class _Numbers:
    def __init__(self, last: int) -> None:
        self.last = last

    def take(self) -> int:
        self.last += 1
        return self.last


def _copy_body(callee: Any, call: Any, entry: Any, fresh: _Numbers) -> int:
    """Append the instructions of ``callee`` for ``call``'s operands; the id of its result."""
    numbers: dict[int, int] = {}
    for instruction in callee.instructions:
        if instruction.opcode == "parameter":
            numbers[instruction.id] = call.operand_ids[instruction.parameter_number]
            continue
        numbers[instruction.id] = fresh.take()
        copy = entry.instructions.add()
        copy.CopyFrom(instruction)
        copy.id = numbers[instruction.id]
        copy.name = f"{instruction.name}.{copy.id}"
        for ids in (copy.operand_ids, copy.control_predecessor_ids):
            ids[:] = [numbers[number] for number in ids]
        copy.control_predecessor_ids.extend(call.control_predecessor_ids)
    return numbers[callee.root_id]


def drop_uncalled(module: Any) -> None:
    """Drop the computations that the entry does not reach."""
    called = {module.entry_computation_id}
    for computation in reversed(list(module.computations)):  # callees come before their callers
        if computation.id in called:
            called.update(n for i in computation.instructions for n in i.called_computation_ids)
    kept = [c for c in module.computations if c.id in called]
    del module.computations[:]
    module.computations.extend(kept)
