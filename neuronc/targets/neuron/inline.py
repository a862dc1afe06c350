"""Put the computations that an HLO entry calls in the place of the calls."""

from typing import Any

from neuronc.errors import CompilerError


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
    _fold_tuple_reads(entry)
    _drop_uncalled(module)


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
        instruction.operand_ids[:] = [moved.get(n, n) for n in instruction.operand_ids]
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
    return numbers[callee.root_id]


def _fold_tuple_reads(entry: Any) -> None:
    """``get-tuple-element(tuple(a, b), 1)`` is ``b``; tuples that nobody reads then go."""
    by_id = {instruction.id: instruction for instruction in entry.instructions}
    same: dict[int, int] = {}
    for instruction in entry.instructions:
        instruction.operand_ids[:] = [same.get(n, n) for n in instruction.operand_ids]
        if instruction.opcode == "get-tuple-element":
            source = by_id[instruction.operand_ids[0]]
            if source.opcode == "tuple":
                same[instruction.id] = source.operand_ids[instruction.tuple_index]
    read = {n for i in entry.instructions for n in i.operand_ids if i.id not in same}
    kept = [
        instruction
        for instruction in entry.instructions
        if instruction.id not in same
        and (instruction.opcode != "tuple" or instruction.id in read | {entry.root_id})
    ]
    kept = [i for i in kept if i.id != entry.root_id] + [by_id[entry.root_id]]
    copies = [type(instruction).FromString(instruction.SerializeToString()) for instruction in kept]
    del entry.instructions[:]
    entry.instructions.extend(copies)


def _drop_uncalled(module: Any) -> None:
    called = {module.entry_computation_id}
    for computation in reversed(list(module.computations)):  # callees come before their callers
        if computation.id in called:
            called.update(n for i in computation.instructions for n in i.called_computation_ids)
    kept = [c for c in module.computations if c.id in called]
    del module.computations[:]
    module.computations.extend(kept)
