"""HLO as plain objects that rules read: operators that know their operands, shapes that compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from google.protobuf.message import DecodeError

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.schema import LEGACY

# xla.PrimitiveType, xla/xla_data.proto: number -> (name in HLO text, bits per element)
_TYPES = {
    1: ("pred", 8),
    2: ("s8", 8),
    3: ("s16", 16),
    4: ("s32", 32),
    5: ("s64", 64),
    6: ("u8", 8),
    7: ("u16", 16),
    8: ("u32", 32),
    9: ("u64", 64),
    10: ("f16", 16),
    11: ("f32", 32),
    12: ("f64", 64),
    13: ("tuple", 0),
    14: ("opaque", 0),
    15: ("c64", 64),
    16: ("bf16", 16),
    17: ("token", 0),
    18: ("c128", 128),
    19: ("f8e5m2", 8),
    20: ("f8e4m3fn", 8),
    21: ("s4", 4),
    22: ("u4", 4),
    23: ("f8e4m3b11fnuz", 8),
    24: ("f8e5m2fnuz", 8),
    25: ("f8e4m3fnuz", 8),
    26: ("s2", 2),
    27: ("u2", 2),
    28: ("f8e4m3", 8),
    29: ("f8e3m4", 8),
    30: ("s1", 1),
    31: ("u1", 1),
    32: ("f4e2m1fn", 4),
    33: ("f8e8m0fnu", 8),
}
TYPE_NUMBERS = {name: number for number, (name, _) in _TYPES.items()}
_BITS = dict(_TYPES.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Element type by its HLO name and dims; ``parts`` of a tuple."""

    dtype: str
    dims: tuple[int, ...] = ()
    parts: tuple["Shape", ...] = ()
    dynamic: bool = False

    @property
    def leaves(self) -> tuple["Shape", ...]:
        """The arrays of a tuple, or the array itself."""
        if self.dtype != "tuple":
            return (self,)
        return tuple(leaf for part in self.parts for leaf in part.leaves)

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements, without padding."""
        return sum((prod(leaf.dims) * _BITS.get(leaf.dtype, 0) + 7) // 8 for leaf in self.leaves)

    def __str__(self) -> str:
        if self.dtype == "tuple":
            return f"({', '.join(map(str, self.parts))})"
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Operator:
    """One instruction; ``message`` is its HloInstructionProto, for its other fields."""

    name: str
    opcode: str
    shape: Shape
    operands: tuple["Operator", ...]
    message: Any
    computation: int

    def __str__(self) -> str:
        return f"{self.name} ({self.opcode})"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Computation:
    """A function of the program; ``program_shape`` is its ProgramShapeProto or None."""

    operators: tuple[Operator, ...]
    root: Operator
    program_shape: Any


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Program:
    """A module: its computations by id, and parameter number by aliased output."""

    computations: Mapping[int, Computation]
    entry: Computation
    aliases: Mapping[tuple[int, ...], int]

    def called_by(self, operator: Operator) -> tuple[Computation, ...]:
        """The computations that ``operator`` calls."""
        return tuple(self.computations[n] for n in operator.message.called_computation_ids)


def read_program(hlo: bytes, name: str) -> Program:
    """Serialized ``xla.HloModuleProto`` -> plain objects; ``name`` is for messages.

    Raises:
        CompilerError: it is no HLO, or refers to an operator or computation that is not in it.
    """
    try:
        module = LEGACY.FromString(hlo)
        computations = {c.id: _read_computation(c) for c in module.computations}
        called = {n for c in module.computations for i in c.instructions for n in _called(i)}
        missing = called - computations.keys()
        if missing:
            raise KeyError(*missing)
        entry = computations[module.entry_computation_id]
    except (DecodeError, KeyError) as error:
        wrong = "cannot be decoded" if isinstance(error, DecodeError) else f"has no id {error}"
        message = f"program {name} is not a whole HLO module: it {wrong}"
        raise CompilerError(message, hint="lower it again") from error
    aliases = {
        tuple(alias.output_shape_index): alias.parameter_number
        for alias in module.input_output_alias.entries
    }
    return Program(computations=computations, entry=entry, aliases=aliases)


def _called(instruction: Any) -> Any:
    return instruction.called_computation_ids


def _read_computation(computation: Any) -> Computation:
    by_id: dict[int, Operator] = {}
    for instruction in computation.instructions:
        by_id[instruction.id] = Operator(
            name=instruction.name,
            opcode=instruction.opcode,
            shape=read_shape(instruction.shape),
            operands=tuple([by_id[n] for n in instruction.operand_ids]),
            message=instruction,
            computation=computation.id,
        )
    given = computation.HasField("program_shape")
    return Computation(
        operators=tuple(by_id.values()),
        root=by_id[computation.root_id],
        program_shape=computation.program_shape if given else None,
    )


def read_shape(shape: Any) -> Shape:
    """A ShapeProto as a `Shape`; a number that no type has reads as ``type N``."""
    number = shape.element_type
    dims = tuple(shape.dimensions)
    return Shape(
        dtype=_TYPES[number][0] if number in _TYPES else f"type {number}",
        dims=dims,
        parts=tuple([read_shape(part) for part in shape.tuple_shapes]),
        dynamic=any(shape.is_dynamic_dimension) or any(dim < 0 for dim in dims),
    )
