"""What is in an HLO file: for looking at what neuronx-cc gets, and what it was made of."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from neuronc.checkpoint.paths import reading
from neuronc.errors import InputError
from neuronc.targets.neuron.hlo.inline import entry_of
from neuronc.targets.neuron.hlo.schema import LEGACY, MODERN

_LARGEST_ID = 2**31 - 1
_TYPES = {
    1: "bool", 2: "s8", 3: "s16", 4: "s32", 5: "s64", 6: "u8", 7: "u16", 8: "u32", 9: "u64",
    10: "f16", 11: "f32", 12: "f64", 13: "tuple", 15: "c64", 16: "bf16", 18: "c128", 20: "f8e4m3fn", 28: "f8e4m3",
}  # fmt: skip  # names of xla.PrimitiveType, xla_data.proto
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True, kw_only=True, slots=True)
class HloSummary:
    """A module at a glance.

    Attributes:
        name: Of the module.
        opcodes: How often each occurs, most frequent first.
        inputs: ``name: type[shape]`` of the entry's parameters, in order.
        outputs: The same of its results.
        collectives: Opcode and ranks of each, in order.
        num_aliases: Outputs written in place of an input.
        is_legal: Whether ids and groups have the older form that neuronx-cc reads.
    """

    name: str
    opcodes: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    collectives: tuple[str, ...]
    num_aliases: int
    is_legal: bool


def summarize_hlo(path: Path) -> HloSummary:
    """Read a serialized ``xla.HloModuleProto``.

    Raises:
        InputError: it cannot be read as one.
    """
    with reading(path):
        raw = path.read_bytes()
    try:
        module = MODERN.FromString(raw)
        entry = entry_of(module)
        inputs, outputs = tuple(inputs_of(entry)), tuple(outputs_of(entry))
    except (DecodeError, StopIteration) as error:
        message = f"{path} is not a serialized HLO module"
        raise InputError(message, hint="pass a .hlo.pb file") from error
    found = [i for computation in module.computations for i in computation.instructions]
    return HloSummary(
        name=str(module.name),
        opcodes=dict(Counter(i.opcode for i in found).most_common()),
        inputs=inputs,
        outputs=outputs,
        collectives=tuple(_collective(i) for i in found if i.opcode in _COLLECTIVES),
        num_aliases=len(module.input_output_alias.entries),
        is_legal=max((i.id for i in found), default=0) <= _LARGEST_ID
        and not _has_unknown_fields(raw)
        and not any(i.HasField("collective_device_list") for i in found),
    )


def _has_unknown_fields(raw: bytes) -> bool:
    """Whether the schema that neuronx-cc reads lacks some of what is in ``raw``."""
    module = LEGACY.FromString(raw)
    whole = module.ByteSize()
    module.DiscardUnknownFields()
    return bool(module.ByteSize() != whole)


def inputs_of(entry: Any) -> list[str]:
    """``name: type[shape]`` of the entry's parameters, in order."""
    parameters = sorted(
        (i for i in entry.instructions if i.opcode == "parameter"),
        key=lambda parameter: int(parameter.parameter_number),
    )
    return [
        f"{p.frontend_attributes.map.get('neff_input_names', p.name)}: {_shape(p.shape)}"
        for p in parameters
    ]


def outputs_of(entry: Any) -> list[str]:
    """``name: type[shape]`` of what the entry gives, in order."""
    root = next(i for i in entry.instructions if i.id == entry.root_id)
    shapes = list(root.shape.tuple_shapes) or [root.shape]
    told = root.frontend_attributes.map.get("neff_output_names", "")
    names = told.split(",") if told else [str(number) for number in range(len(shapes))]
    return [f"{name}: {_shape(shape)}" for name, shape in zip(names, shapes, strict=False)]


def _shape(shape: Any) -> str:
    kind = _TYPES.get(shape.element_type, f"type {shape.element_type}")
    return f"{kind}[{','.join(map(str, shape.dimensions))}]"


def _collective(instruction: Any) -> str:
    groups = instruction.replica_groups or instruction.collective_device_list.replica_groups
    ranks = " ".join(str(list(group.replica_ids)) for group in groups)
    return f"{instruction.opcode} {_shape(instruction.shape)} over {ranks or 'all'}"
