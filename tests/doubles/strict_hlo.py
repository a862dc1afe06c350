"""Reads HLO as strictly as neuronx-cc is known to; a ValueError starts with the compiler's code."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from neuronc.targets.neuron.hlo.schema import LEGACY
from tests.doubles.top_k_call import TARGET, check_call

_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
_INTERNAL, _UNSUPPORTED, _DYNAMIC = "NCC_INLA001", "NCC_EVRF001", "NCC_EMOD025"
_REFUSED_OPS = ("sort", "topk", "triangular-solve", "cholesky", "fft", "conditional", "call")
_S64, _U64, _F64, _C64, _C128 = 5, 9, 12, 15, 18
_F8E4M3FN = 20
_MAX_ID = 2**31


def read_strictly(raw: bytes, *, target: str | None = None) -> Any:
    """The module in ``raw``; what a ``target`` has is checked where one is given.

    Raises:
        ValueError: what the real compiler rejects or is known to crash on.
    """
    module = LEGACY.FromString(raw)
    for message in _walk(module):
        if len(UnknownFieldSet(message)):
            number = UnknownFieldSet(message)[0].field_number
            _refuse(_INTERNAL, f"unknown field {number} in {message.DESCRIPTOR.name}")
        if message.DESCRIPTOR.name == "ShapeProto":
            _check_shape(message)
            if message.element_type == _F8E4M3FN and target not in (None, "trn3"):
                _refuse("NCC_EVRF051", f"f8e4m3fn is not supported on {target}")
    seen: dict[int, Any] = {}
    for computation in module.computations:
        for instruction in computation.instructions:
            _check_instruction(instruction, seen)
            seen[instruction.id] = instruction
    entry = module.computations[-1]
    if entry.id != module.entry_computation_id:
        _refuse(_INTERNAL, "the entry computation is not the last")
    _check_names(module, entry)
    return module


def _check_shape(shape: Any) -> None:
    if any(shape.is_dynamic_dimension) or any(size < 0 for size in shape.dimensions):
        _refuse(_DYNAMIC, "dynamic dimensions are not supported")
    if shape.element_type in (_F64, _C64, _C128, _S64, _U64):
        _refuse("NCC_ESPP004", f"unsupported element type {shape.element_type}")
    order = list(shape.layout.minor_to_major)
    if order != sorted(order, reverse=True):
        _refuse(_INTERNAL, f"layout {order} is not row-major")


def _check_instruction(instruction: Any, seen: dict[int, Any]) -> None:
    name = instruction.name
    if not 0 <= instruction.id < _MAX_ID or instruction.id in seen:
        _refuse(_INTERNAL, f"instruction {name} has id {instruction.id}")
    if not set(instruction.operand_ids) <= seen.keys():
        _refuse(_INTERNAL, f"instruction {name} uses what comes after it")
    if instruction.custom_call_target == TARGET:
        check_call(instruction, seen)
    if instruction.opcode in _REFUSED_OPS:
        _refuse(_UNSUPPORTED, f"Unsupported operator {instruction.opcode} in {name}")
    if instruction.opcode == "reduce" and len(instruction.operand_ids) != 2:
        _refuse(_UNSUPPORTED, f"variadic reduce {name}")
    if instruction.channel_id:
        _refuse(_INTERNAL, f"{name} has a channel")
    if instruction.opcode in _COLLECTIVES and not instruction.replica_groups:
        _refuse(_INTERNAL, f"{name} has no replica groups")


def _check_names(module: Any, entry: Any) -> None:
    aliased = {e.parameter_number: e for e in module.input_output_alias.entries}
    parameters = {i.id: i for i in entry.instructions if i.opcode == "parameter"}
    for parameter in parameters.values():
        name = parameter.frontend_attributes.map.get("neff_input_names", "")
        if (parameter.parameter_number in aliased) != name.endswith(".must_alias_input"):
            _refuse(_INTERNAL, f"alias of input {name!r}")
    root = next(i for i in entry.instructions if i.id == entry.root_id)
    for number, operand in enumerate(root.operand_ids):
        source = parameters.get(operand)
        if source is not None and source.parameter_number not in aliased:
            _refuse(_INTERNAL, f"output {number} is an input passed through")


def _walk(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else (value,):
            yield from _walk(inner)


def _refuse(code: str, text: str) -> None:
    message = f"{code} {text}"
    raise ValueError(message)
