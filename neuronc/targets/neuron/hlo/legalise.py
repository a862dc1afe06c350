"""One rank's HLO, as XLA writes it today, to the HLO proto that neuronx-cc reads.

What has to differ is from the Neuron SDK's documentation and from AWS's open code (nkipy, NxD):
32-bit ids, replica groups in their older field, no channels, row-major layouts, names of inputs and
outputs as frontend attributes, caches that must alias. The numbers stay the same; a test runs both
on XLA:CPU.
"""

from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.element_types import C64, C128, F64, TUPLE, name_of
from neuronc.targets.neuron.hlo.inline import entry_of, inline_calls
from neuronc.targets.neuron.hlo.interface import (
    copy_passed_through,
    name_inputs_and_outputs,
    set_aliases,
)
from neuronc.targets.neuron.hlo.rewrites.float8 import end_floats_at_240
from neuronc.targets.neuron.hlo.rewrites.pipeline import rewrite_operators
from neuronc.targets.neuron.hlo.schema import LEGACY, MODERN
from neuronc.targets.neuron.hlo.walk import shapes_of, walk
from neuronc.trace.program_spec import ProgramSignature

_UNSUPPORTED = frozenset({F64, C64, C128})


def legalise(
    hlo: bytes,
    signature: ProgramSignature,
    *,
    floats_end_at_240: bool = False,
    top_k_call: bool = False,
) -> bytes:
    """Serialized ``xla.HloModuleProto`` of one rank, in the form neuronx-cc reads.

    Inputs are named as in ``signature``; a cache's input ``NAME.must_alias_input`` and its output
    ``NAME`` are one device tensor. Operators that neuronx-cc does not take become others
    (`rewrites`), and 64-bit integers 32-bit ones, inputs and outputs too. Cost: linear in the number of instructions, no weights.

    Args:
        hlo: Serialized ``xla.HloModuleProto`` of today's XLA.
        signature: Inputs and outputs of that module in order.
        floats_end_at_240: The target has f8e4m3 and no f8e4m3fn, and no input of the latter type
            holds more than 240: it becomes the former.
        top_k_call: Top-k becomes the compiler's own custom call where that can say it.

    Raises:
        CompilerError: the module has a field, type or shape that has no legal form; it is named.
    """
    module = MODERN.FromString(hlo)
    for message in walk(module):
        _refuse_unknown_fields(message)
    inline_calls(module)
    rewrite_operators(module, top_k_call=top_k_call)
    if floats_end_at_240:
        end_floats_at_240(module)
    for computation in module.computations:
        for instruction in computation.instructions:
            _legalise_instruction(instruction)
    legalise_shapes(module)
    entry = entry_of(module)
    copy_passed_through(entry, signature)
    name_inputs_and_outputs(entry, signature)
    set_aliases(module, signature)
    renumber(module)
    _drop_newer_fields(module)
    legal = LEGACY.FromString(module.SerializeToString(deterministic=True))
    for message in walk(legal):
        _refuse_unknown_fields(message)
    return bytes(legal.SerializeToString(deterministic=True))


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


def legalise_shapes(module: Any) -> None:
    """Give every tensor of ``module`` a row-major layout; refuse what has no form."""
    for shape in shapes_of(module):
        _legalise_shape(shape)


def _legalise_shape(shape: Any) -> None:
    if shape.element_type in _UNSUPPORTED:
        message = f"HLO has a tensor of {name_of(shape.element_type)}"
        hint = "neuronx-cc takes types of up to 32 bits; report the model's family"
        raise CompilerError(message, hint=hint)
    if any(shape.is_dynamic_dimension):
        message = f"HLO has a dynamic shape {list(shape.dimensions)}"
        raise CompilerError(message, hint="every shape has to be static; report the model's family")
    shape.ClearField("is_dynamic_dimension")
    if shape.element_type == TUPLE:
        shape.ClearField("layout")
        return
    shape.layout.ClearField("minor_to_major")
    shape.layout.minor_to_major.extend(reversed(range(len(shape.dimensions))))
    shape.layout.tail_padding_alignment_in_elements = 1


def renumber(module: Any) -> None:
    """Ids from 0 without gaps, unique in the module; computations are numbered apart."""
    computations = {c.id: number for number, c in enumerate(module.computations)}
    fresh = 0
    for computation in module.computations:
        instructions = {i.id: fresh + n for n, i in enumerate(computation.instructions)}
        fresh += len(instructions)
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
    for message in list(walk(module)):
        known = _LEGACY_FIELDS[message.DESCRIPTOR.name]
        for field, _ in message.ListFields():
            if field.name not in known:
                message.ClearField(field.name)


_LEGACY_FIELDS = {
    message.name: set(message.fields_by_name)
    for message in LEGACY.DESCRIPTOR.file.message_types_by_name.values()
} | {name: set() for name in ("CollectiveDeviceListProto", "IotaReplicaGroupListProto")}
