"""One rank's HLO, as XLA writes it today, to the HLO proto that neuronx-cc reads.

What has to differ is from the Neuron SDK's documentation and from AWS's open code (nkipy, NxD):
32-bit ids, replica groups in their older field, no channels, row-major layouts, names of inputs and
outputs as frontend attributes, caches that must alias. The numbers stay the same; a test runs both
on XLA:CPU.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo_schema import LEGACY, MODERN
from neuronc.targets.neuron.inline import entry_of, inline_calls
from neuronc.trace.program_spec import ProgramSignature

MUST_ALIAS = 2  # xla.Kind, xla/service/hlo.proto
MUST_ALIAS_SUFFIX = ".must_alias_input"
_TUPLE = 13  # as below, of xla.PrimitiveType
_UNSUPPORTED = {12: "f64", 15: "c64", 18: "c128", 5: "s64", 9: "u64"}  # xla.PrimitiveType


def legalise(hlo: bytes, signature: ProgramSignature) -> bytes:
    """Serialized ``xla.HloModuleProto`` of one rank, in the form neuronx-cc reads.

    Inputs are named as in ``signature``; a cache's input ``NAME.must_alias_input`` and its output
    ``NAME`` are one device tensor. Cost: linear in the number of instructions, no weights.

    Raises:
        CompilerError: the module has a field, type or shape that has no legal form; it is named.
    """
    module = MODERN.FromString(hlo)
    for message in _walk(module):
        _refuse_unknown_fields(message)
    inline_calls(module)
    for computation in module.computations:
        for instruction in computation.instructions:
            _legalise_instruction(instruction)
    for shape in _shapes(module):
        _legalise_shape(shape)
    entry = entry_of(module)
    _copy_passed_through(entry, signature)
    _name_inputs_and_outputs(entry, signature)
    _set_aliases(module, signature)
    _renumber(module)
    _drop_newer_fields(module)
    legal = LEGACY.FromString(module.SerializeToString(deterministic=True))
    for message in _walk(legal):
        _refuse_unknown_fields(message)
    return bytes(legal.SerializeToString(deterministic=True))


def _walk(message: Any) -> Iterator[Any]:
    """``message`` and every message inside it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else (value,):
            yield from _walk(inner)


def _shapes(module: Any) -> Iterator[Any]:
    return (message for message in _walk(module) if message.DESCRIPTOR.name == "ShapeProto")


def _refuse_unknown_fields(message: Any) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        field = f"field {unknown[0].field_number} of {message.DESCRIPTOR.name}"
        told = f"HLO has {field}, which has no form that neuronx-cc reads"
        raise CompilerError(told, hint="use the jaxlib version this neuronc is pinned to")


def _legalise_instruction(instruction: Any) -> None:
    instruction.channel_id = 0
    instruction.use_global_device_ids = False
    devices = instruction.collective_device_list
    if devices.HasField("iota_replica_group_list"):
        groups = _expand_iota(devices.iota_replica_group_list)
    else:
        groups = [list(group.replica_ids) for group in devices.replica_groups]
    if groups:  # else the older field, where there is one, holds them already
        instruction.ClearField("replica_groups")
    for group in groups:
        instruction.replica_groups.add(replica_ids=group)
    op_name = instruction.metadata.op_name
    instruction.ClearField("metadata")  # paths of the machine that traced it
    if op_name:
        instruction.metadata.op_name = op_name


def _expand_iota(iota: Any) -> list[list[int]]:
    """The groups of an iota list: reshape ``0..n-1``, transpose, cut into rows."""
    import numpy as np

    numbers = np.arange(iota.num_replica_groups * iota.num_devices_per_group)
    shaped = numbers.reshape(tuple(iota.iota_reshape_dims) or numbers.shape)
    order = tuple(iota.iota_transpose_perm) or tuple(range(shaped.ndim))
    rows = shaped.transpose(order).reshape(iota.num_replica_groups, iota.num_devices_per_group)
    return [[int(number) for number in row] for row in rows]


def _legalise_shape(shape: Any) -> None:
    if shape.element_type in _UNSUPPORTED:
        message = f"HLO has a tensor of {_UNSUPPORTED[shape.element_type]}"
        hint = "neuronx-cc takes types of up to 32 bits; report the model's family"
        raise CompilerError(message, hint=hint)
    if any(shape.is_dynamic_dimension):
        message = f"HLO has a dynamic shape {list(shape.dimensions)}"
        raise CompilerError(message, hint="every shape has to be static; report the model's family")
    shape.ClearField("is_dynamic_dimension")
    if shape.element_type == _TUPLE:
        shape.ClearField("layout")
        return
    shape.layout.ClearField("minor_to_major")
    shape.layout.minor_to_major.extend(reversed(range(len(shape.dimensions))))
    shape.layout.tail_padding_alignment_in_elements = 1


def _copy_passed_through(entry: Any, signature: ProgramSignature) -> None:
    """An output that is an input gets a buffer of its own, unless the two are to be one."""
    by_id = {instruction.id: instruction for instruction in entry.instructions}
    root = by_id[entry.root_id]
    outputs = root.operand_ids if root.opcode == "tuple" else [root.id]
    fresh = max(by_id) + 1
    for number, output in enumerate(outputs):
        source = by_id[output]
        if source.opcode != "parameter" or signature.aliases.get(number) == source.parameter_number:
            continue
        copy = type(root)(name=f"copy.{number}", opcode="copy", id=fresh + number)
        copy.shape.CopyFrom(source.shape)
        copy.operand_ids.append(output)
        if root.opcode == "tuple":
            root.operand_ids[number] = copy.id
            entry.instructions.insert(len(entry.instructions) - 1, copy)
        else:  # a single result is an array, not a tuple of one
            entry.root_id = copy.id
            entry.instructions.append(copy)


def _name_inputs_and_outputs(entry: Any, signature: ProgramSignature) -> None:
    names = input_names(signature)
    for instruction in entry.instructions:
        if instruction.opcode == "parameter":
            name = names[instruction.parameter_number]
            instruction.frontend_attributes.map["neff_input_names"] = name
    outputs = ",".join(tensor.name for tensor in signature.outputs)
    entry.instructions[-1].frontend_attributes.map["neff_output_names"] = outputs


def input_names(signature: ProgramSignature) -> tuple[str, ...]:
    """Names of the program's inputs in its NEFF."""
    aliased = set(signature.aliases.values())
    return tuple(
        tensor.name + (MUST_ALIAS_SUFFIX if number in aliased else "")
        for number, tensor in enumerate(signature.inputs)
    )


def _set_aliases(module: Any, signature: ProgramSignature) -> None:
    module.ClearField("input_output_alias")
    for output, number in sorted(signature.aliases.items()):
        index = [output] if len(signature.outputs) > 1 else []
        module.input_output_alias.entries.add(
            output_shape_index=index, parameter_number=number, kind=MUST_ALIAS
        )


def _renumber(module: Any) -> None:
    """Ids from 0 without gaps, unique in the module; computations are numbered apart."""
    computations = {c.id: number for number, c in enumerate(module.computations)}
    instructions: dict[int, int] = {}
    for computation in module.computations:
        for instruction in computation.instructions:
            instructions[instruction.id] = len(instructions)
    for computation in module.computations:
        computation.id = computations[computation.id]
        computation.root_id = instructions[computation.root_id]
        for instruction in computation.instructions:
            instruction.id = instructions[instruction.id]
            for ids, table in (
                (instruction.operand_ids, instructions),
                (instruction.control_predecessor_ids, instructions),
                (instruction.called_computation_ids, computations),
            ):
                ids[:] = [table[number] for number in ids]
    module.entry_computation_id = computations[module.entry_computation_id]
    module.id = 0


def _drop_newer_fields(module: Any) -> None:
    """Clear what the older schema does not know; none of it changes what is computed."""
    for message in list(_walk(module)):
        known = _LEGACY_FIELDS[message.DESCRIPTOR.name]
        for field, _ in message.ListFields():
            if field.name not in known:
                message.ClearField(field.name)


_LEGACY_FIELDS = {
    message.name: set(message.fields_by_name)
    for message in LEGACY.DESCRIPTOR.file.message_types_by_name.values()
} | {name: set() for name in ("CollectiveDeviceListProto", "IotaReplicaGroupListProto")}
