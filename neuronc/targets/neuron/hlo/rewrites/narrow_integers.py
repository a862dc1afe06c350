"""64-bit integers become 32-bit ones, as neuronx-cc makes them by default.

Values have to fit 32 bits, as indices, positions and token numbers do; what can be seen to need
more is refused: a constant out of range, or an operator that is about the bits themselves.
"""

from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.dataflow import drop_dead, replace_uses, users_of
from neuronc.targets.neuron.hlo.element_types import S32, S64, U32, U64, highest, lowest, name_of
from neuronc.targets.neuron.hlo.rewrites.builder import describe
from neuronc.targets.neuron.hlo.walk import shapes_of, walk

_NARROW = {S64: S32, U64: U32}
_FIELDS = {S64: ("s64s", "s32s"), U64: ("u64s", "u32s")}
_ABOUT_BITS = frozenset(
    {"bitcast-convert", "count-leading-zeros", "popcnt", "rng", "rng-bit-generator"}
)
_MOVES = frozenset({"broadcast", "reshape", "copy", "transpose"})
_HINT = "keep the model's integers within 32 bits, or use 64-bit integers on trn2 and later"


def narrow_integers(module: Any) -> None:
    """Make every s64 and u64 in ``module`` s32 and u32; converts that do nothing then go.

    The least and the greatest 64-bit number become those of 32 bits where a maximum or a minimum
    starts from them, and nowhere else.

    Raises:
        CompilerError: a constant does not fit, or an operator would give something else.
    """
    for computation in module.computations:
        by_id = {instruction.id: instruction for instruction in computation.instructions}
        for instruction in by_id.values():
            _refuse_bits(by_id, instruction)
            for part in walk(instruction.literal):
                if part.DESCRIPTOR.name == "LiteralProto":
                    _narrow_literal(module, computation, instruction, part)
    for shape in shapes_of(module):
        shape.element_type = _NARROW.get(shape.element_type, shape.element_type)
    for computation in module.computations:
        _drop_converts(computation)


def _refuse_bits(by_id: dict[int, Any], instruction: Any) -> None:
    read = [by_id[number] for number in instruction.operand_ids]
    types = {shape.element_type for i in (instruction, *read) for shape in shapes_of(i.shape)}
    wide = sorted(types & set(_NARROW))
    opcode = instruction.opcode
    if (
        (opcode in _ABOUT_BITS and wide)
        or (opcode == "shift-right-logical" and S64 in wide)
        or (opcode == "not" and U64 in wide)
    ):
        message = (
            f"{describe(instruction)} means something else in 32 bits than in {name_of(wide[0])}"
        )
        raise CompilerError(message, hint=_HINT)


def _narrow_literal(module: Any, computation: Any, constant: Any, literal: Any) -> None:
    wide = literal.shape.element_type
    if wide not in _FIELDS:
        return
    low, high = lowest(_NARROW[wide]), highest(_NARROW[wide])
    source, target = _FIELDS[wide]
    values = list(getattr(literal, source))
    outside = {value for value in values if not low <= value <= high}
    starts = {lowest(wide): "maximum", highest(wide): "minimum"}
    for value in outside:
        opcode = starts.get(value)
        if opcode is None or not _only_starts(module, computation, constant, opcode):
            message = f"{describe(constant)} is {value}, which does not fit 32 bits"
            raise CompilerError(message, hint=_HINT)
    getattr(literal, target).extend(max(low, min(high, value)) for value in values)
    literal.ClearField(source)


def _only_starts(module: Any, computation: Any, source: Any, opcode: str) -> bool:
    """Whether ``source`` is read as the neutral element of ``opcode`` and as nothing else."""
    readers = users_of(computation).get(source.id, [])
    if not readers or computation.root_id == source.id:
        return False
    return all(
        _only_starts(module, computation, reader, opcode)
        if reader.opcode in _MOVES
        else _starts(module, source.id, reader, opcode)
        for reader in readers
    )


def _starts(module: Any, number: int, reader: Any, opcode: str) -> bool:
    operands = list(reader.operand_ids)
    if reader.opcode in ("reduce", "reduce-window"):
        half = len(operands) // 2
        body = next(c for c in module.computations if c.id == reader.called_computation_ids[0])
        root = next(i for i in body.instructions if i.id == body.root_id)
        return number not in operands[:half] and root.opcode == opcode
    if reader.opcode == "clamp":  # of the lower end, the value, the upper end
        end = 0 if opcode == "maximum" else 2
        return [place for place, n in enumerate(operands) if n == number] == [end]
    return bool(reader.opcode == opcode)


def _drop_converts(computation: Any) -> None:
    types = {i.id: i.shape.element_type for i in computation.instructions}
    same = {
        i.id: i.operand_ids[0]
        for i in computation.instructions
        if i.opcode == "convert" and types[i.operand_ids[0]] == i.shape.element_type
    }
    if same:
        replace_uses(computation, same)
        drop_dead(computation)
