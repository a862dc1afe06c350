"""Writes HLO instructions in the place of one that neuronx-cc does not take."""

from collections.abc import Callable, Sequence
from typing import Any

from neuronc.targets.neuron.hlo.dataflow import (
    drop_dead,
    fold_tuple_reads,
    set_instructions,
    users_of,
)
from neuronc.targets.neuron.hlo.element_types import PRED, TUPLE, name_of, set_scalar

Rule = Callable[["Builder", Any], Any]
"""Emits what stands for an instruction and returns its last part; None leaves it as it is."""


def rewrite(module: Any, rule: Rule) -> None:
    """Apply ``rule`` to every instruction of every computation of ``module``."""
    for computation in list(module.computations):
        drop_dead(computation)
        builder = Builder(module, computation)
        for instruction in list(computation.instructions):
            builder.replace(instruction, rule)
        if builder.changed:
            set_instructions(computation, builder.emitted)
            fold_tuple_reads(computation)


def describe(instruction: Any) -> str:
    """How an error names ``instruction``: opcode, name, and where the model has it."""
    source = instruction.metadata.op_name
    return f"{instruction.opcode} {instruction.name}" + (f" ({source})" if source else "")


class Builder:
    """The instructions of one computation, in the making.

    Shapes are element type and dims; layouts come later, row-major all. Every ``emit`` of an
    operand that is itself an instruction reads its shape, so operands are passed as instructions.
    """

    def __init__(self, module: Any, computation: Any) -> None:
        self.emitted: list[Any] = []
        self.changed = False
        self.by_id = {i.id: i for i in computation.instructions}
        self.users = users_of(computation)
        self.root_id = computation.root_id
        self._module = module
        self._last_id = max(self.by_id)
        self._current: Any = None

    def replace(self, instruction: Any, rule: Rule) -> None:
        """Emit what ``rule`` makes of ``instruction``, or ``instruction`` itself."""
        self._current = instruction
        start = len(self.emitted)
        result = rule(self, instruction)
        if result is None:
            self.emitted.append(instruction)
            return
        self.changed = True
        result.id = instruction.id
        self.by_id[result.id] = result
        for emitted in self.emitted[start:]:
            emitted.control_predecessor_ids.extend(instruction.control_predecessor_ids)

    def operands(self, instruction: Any) -> list[Any]:
        """The instructions that ``instruction`` reads."""
        return [self.by_id[number] for number in instruction.operand_ids]

    def computation(self, number: int) -> Any:
        """The computation of id ``number``."""
        return next(c for c in self._module.computations if c.id == number)

    def emit(
        self, opcode: str, dtype: int, dims: Sequence[int], *operands: Any, **fields: Any
    ) -> Any:
        """Append an instruction; ``fields`` are more fields of ``HloInstructionProto``."""
        self._last_id += 1
        name = f"{self._current.name}.{opcode}.{self._last_id}"
        new = type(self._current)(name=name, opcode=opcode, id=self._last_id, **fields)
        new.shape.element_type = dtype
        new.shape.dimensions.extend(dims)
        new.operand_ids.extend(operand.id for operand in operands)
        new.metadata.CopyFrom(self._current.metadata)
        self.emitted.append(new)
        self.by_id[new.id] = new
        return new

    def full(self, dtype: int, dims: Sequence[int], value: float) -> Any:
        """A tensor with ``value`` everywhere."""
        scalar = self.emit("constant", dtype, ())
        set_scalar(scalar.literal, dtype, value)
        return scalar if not dims else self.emit("broadcast", dtype, dims, scalar)

    def iota(self, dtype: int, dims: Sequence[int], dim: int) -> Any:
        """``0, 1, 2...`` along ``dim``."""
        return self.emit("iota", dtype, dims, dimensions=[dim])

    def spread(self, x: Any, dims: Sequence[int], where: Sequence[int]) -> Any:
        """Broadcast ``x`` to ``dims``; its dim ``i`` becomes dim ``where[i]``."""
        return self.emit("broadcast", x.shape.element_type, dims, x, dimensions=where)

    def elementwise(self, opcode: str, *operands: Any) -> Any:
        """An operator whose result is of its last operand's shape and type."""
        shape = operands[-1].shape
        return self.emit(opcode, shape.element_type, shape.dimensions, *operands)

    def compare(self, a: Any, direction: str, b: Any) -> Any:
        """``EQ NE LT GT``, as the element type has it; no NaN equals anything."""
        return self.emit("compare", PRED, a.shape.dimensions, a, b, comparison_direction=direction)

    def convert(self, x: Any, dtype: int) -> Any:
        """``x`` as ``dtype``; ``x`` itself if it is that already."""
        if x.shape.element_type == dtype:
            return x
        return self.emit("convert", dtype, x.shape.dimensions, x)

    def reduce(self, opcode: str, x: Any, dim: int, init: float) -> Any:
        """Fold ``dim`` away with ``maximum``, ``minimum`` or ``add``, starting from ``init``."""
        dtype = x.shape.element_type
        dims = [size for number, size in enumerate(x.shape.dimensions) if number != dim]
        start = self.full(dtype, (), init)
        reducer = self._reducer(opcode, dtype)
        return self.emit(
            "reduce", dtype, dims, x, start, dimensions=[dim], called_computation_ids=[reducer]
        )

    def tuple_of(self, *parts: Any) -> Any:
        """A tuple of ``parts``; reads of it are folded after the rewrite."""
        new = self.emit("tuple", TUPLE, (), *parts)
        for part in parts:
            new.shape.tuple_shapes.add().CopyFrom(part.shape)
        return new

    def _reducer(self, opcode: str, dtype: int) -> int:
        """The id of the computation ``opcode(a, b)``; made on first use, before its callers."""
        name = f"neuronc_{opcode}_{name_of(dtype)}"
        for computation in self._module.computations:
            if computation.name == name:
                return int(computation.id)
        new = type(self._module.computations[0])(name=name, root_id=2)
        new.id = max(c.id for c in self._module.computations) + 1
        for number, kind in enumerate(("parameter", "parameter", opcode)):
            part = new.instructions.add(name=f"{name}.{number}", opcode=kind, id=number)
            part.shape.element_type = dtype
        new.instructions[1].parameter_number = 1
        new.instructions[2].operand_ids.extend((0, 1))
        for _ in range(2):
            new.program_shape.parameters.add(element_type=dtype)
        new.program_shape.parameter_names.extend(("a", "b"))
        new.program_shape.result.element_type = dtype
        self._module.computations.insert(0, new)
        return int(new.id)
