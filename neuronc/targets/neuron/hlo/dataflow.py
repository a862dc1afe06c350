"""What every rewrite needs of a computation: users, tuples that are at hand, dead instructions."""

from collections.abc import Iterable
from typing import Any

# These do more than give a value, or every rank has to reach them
_KEPT = frozenset(
    {
        "parameter",
        "custom-call",
        "call",
        "while",
        "conditional",
        "infeed",
        "outfeed",
        "send",
        "recv",
        "send-done",
        "recv-done",
        "rng-bit-generator",
        "rng",
        "all-reduce",
        "all-gather",
        "all-to-all",
        "reduce-scatter",
        "collective-permute",
        "collective-broadcast",
    }
)


def users_of(computation: Any) -> dict[int, list[Any]]:
    """The instructions that read each id."""
    users: dict[int, list[Any]] = {}
    for instruction in computation.instructions:
        for number in dict.fromkeys(instruction.operand_ids):
            users.setdefault(number, []).append(instruction)
    return users


def set_instructions(computation: Any, instructions: Iterable[Any]) -> None:
    """Make ``instructions``, which may be its own, all that ``computation`` has."""
    copies = [type(i).FromString(i.SerializeToString()) for i in instructions]
    del computation.instructions[:]
    computation.instructions.extend(copies)


def replace_uses(computation: Any, same: dict[int, int]) -> None:
    """Read ``same[n]`` where ``n`` was read; the instructions ``n`` themselves go."""
    if not same:
        return
    for instruction in computation.instructions:
        for ids in (instruction.operand_ids, instruction.control_predecessor_ids):
            ids[:] = [_end(same, number) for number in ids]
    computation.root_id = _end(same, computation.root_id)
    set_instructions(computation, [i for i in computation.instructions if i.id not in same])


def _end(same: dict[int, int], number: int) -> int:
    while number in same:
        number = same[number]
    return number


def fold_tuple_reads(computation: Any) -> None:
    """``get-tuple-element(tuple(a, b), 1)`` becomes ``b``; what nobody reads then goes."""
    by_id = {instruction.id: instruction for instruction in computation.instructions}
    same: dict[int, int] = {}
    for instruction in computation.instructions:
        if instruction.opcode != "get-tuple-element":
            continue
        source = by_id[_end(same, instruction.operand_ids[0])]
        if source.opcode == "tuple":
            same[instruction.id] = source.operand_ids[instruction.tuple_index]
    replace_uses(computation, same)
    drop_dead(computation)


def drop_dead(computation: Any) -> None:
    """Drop what neither the result nor anything with an effect needs; the result comes last.

    An instruction that only had others wait for it goes too, and they wait for what it waited for.
    """
    instructions = list(computation.instructions)
    by_id = {instruction.id: instruction for instruction in instructions}
    live = {computation.root_id} | {i.id for i in instructions if i.opcode in _KEPT}
    for instruction in reversed(instructions):  # operands come before their users
        if instruction.id in live:
            live.update(instruction.operand_ids)
    for instruction in instructions:
        waits = _live_predecessors(instruction.control_predecessor_ids, by_id, live)
        instruction.control_predecessor_ids[:] = waits
    set_instructions(computation, [i for i in instructions if i.id in live])
    _put_root_last(computation)


def _live_predecessors(waits: Iterable[int], by_id: dict[int, Any], live: set[int]) -> list[int]:
    found: dict[int, None] = {}
    todo = list(waits)
    while todo:
        number = todo.pop(0)
        if by_id[number].opcode in ("parameter", "constant"):
            continue
        if number in live:
            found[number] = None
        else:
            todo += [*by_id[number].control_predecessor_ids, *by_id[number].operand_ids]
    return list(found)


def _put_root_last(computation: Any) -> None:
    instructions = list(computation.instructions)
    root = next(i for i in instructions if i.id == computation.root_id)
    if root.id == instructions[-1].id:
        return
    others = [i for i in instructions if i.id != root.id]
    waited = {n for i in others for n in (*i.operand_ids, *i.control_predecessor_ids)}
    if root.id in waited:
        copy = type(root)(name=f"{root.name}.copy", opcode="copy", operand_ids=[root.id])
        copy.id = max(i.id for i in instructions) + 1
        copy.shape.CopyFrom(root.shape)
        computation.root_id = copy.id
        set_instructions(computation, [*instructions, copy])
    else:
        set_instructions(computation, [*others, root])
