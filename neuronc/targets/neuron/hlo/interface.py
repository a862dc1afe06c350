"""Inputs and outputs of a Neuron program: their names, and which share a buffer."""

from typing import Any

from neuronc.trace.program_spec import ProgramSignature

MUST_ALIAS = 2  # xla.Kind, xla/service/hlo.proto
MUST_ALIAS_SUFFIX = ".must_alias_input"


def copy_passed_through(entry: Any, signature: ProgramSignature) -> None:
    """An output that is an input gets a buffer of its own, unless the two are to be one."""
    by_id = {instruction.id: instruction for instruction in entry.instructions}
    root = by_id[entry.root_id]
    outputs = root.operand_ids if root.opcode == "tuple" else [root.id]
    fresh = max(by_id) + 1
    for number, output in enumerate(outputs):
        source = by_id[output]
        if source.opcode != "parameter" or signature.aliases.get(number) == source.parameter_number:
            continue
        copy = type(root)(name=f"{source.name}.copy.{number}", opcode="copy", id=fresh + number)
        copy.shape.CopyFrom(source.shape)
        copy.operand_ids.append(output)
        if root.opcode == "tuple":
            root.operand_ids[number] = copy.id
            entry.instructions.insert(len(entry.instructions) - 1, copy)
        else:  # a single result is an array, not a tuple of one
            entry.root_id = copy.id
            entry.instructions.append(copy)


def name_inputs_and_outputs(entry: Any, signature: ProgramSignature) -> None:
    """Write the names of ``signature`` where neuronx-cc looks for them."""
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


def set_aliases(module: Any, signature: ProgramSignature) -> None:
    """Tell which outputs are written in place of which inputs."""
    module.ClearField("input_output_alias")
    for output, number in sorted(signature.aliases.items()):
        index = [output] if len(signature.outputs) > 1 else []
        module.input_output_alias.entries.add(
            output_shape_index=index, parameter_number=number, kind=MUST_ALIAS
        )
