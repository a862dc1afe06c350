"""Recognises the positions along an axis, which argmax and sorts carry with the values."""

from typing import Any

from neuronc.targets.neuron.hlo.element_types import elements_of
from neuronc.targets.neuron.hlo.rewrites.builder import Builder

_MOVES = ("broadcast", "convert", "copy", "reshape")


def is_iota(builder: Builder, instruction: Any, dim: int) -> bool:
    """Whether ``instruction`` is ``0, 1, 2...`` along ``dim`` and the same along the others."""
    size = instruction.shape.dimensions[dim]
    if size == 1:
        return _is_zero(builder, instruction)
    while instruction.opcode in _MOVES:
        (source,) = builder.operands(instruction)
        found = _dim_in_source(instruction, source, dim)
        if found is None:
            return False
        instruction, dim = source, found
    if instruction.opcode == "iota":
        return bool(instruction.dimensions[0] == dim)
    if instruction.opcode != "constant" or len(instruction.shape.dimensions) != 1:
        return False
    return elements_of(instruction.literal) == list(range(size))


def _is_zero(builder: Builder, instruction: Any) -> bool:
    while instruction.opcode in _MOVES:
        (instruction,) = builder.operands(instruction)
    if instruction.opcode == "iota":
        return bool(instruction.shape.dimensions[instruction.dimensions[0]] == 1)
    return instruction.opcode == "constant" and not any(elements_of(instruction.literal))


def _dim_in_source(instruction: Any, source: Any, dim: int) -> int | None:
    """Which dim of the operand ``source`` is ``dim`` of ``instruction``, if it is just one."""
    if instruction.opcode == "broadcast":
        dims = list(instruction.dimensions)
        return dims.index(dim) if dim in dims else None
    if instruction.opcode == "reshape":  # that only adds or drops dims of one element
        now, then = (_longer_than_one(i.shape.dimensions) for i in (instruction, source))
        same = list(now.values()) == list(then.values())
        return list(then)[list(now).index(dim)] if same else None
    return dim


def _longer_than_one(dims: Any) -> dict[int, int]:
    return {number: size for number, size in enumerate(dims) if size != 1}
