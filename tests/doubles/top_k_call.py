"""The custom call AwsNeuronTopK as AWS's open code writes it: read strictly, and run by XLA's own.

``backend_config`` is k in decimal, the operand is of floats, the result (values, u32 places) along
the last dim. Which of equal values comes first is documented nowhere: here it is the first.
"""

import re
from collections.abc import Mapping
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir

TARGET = "AwsNeuronTopK"
_U32, _TUPLE, _FLOATS = 8, 13, (10, 11, 16)


def check_call(instruction: Any, by_id: Mapping[int, Any]) -> None:
    """Refuse a call that is another than the documented one; a ValueError starts with the code."""
    if len(instruction.operand_ids) != 1:
        _refuse("NCC_INLA001", f"{instruction.name} has {len(instruction.operand_ids)} operands")
    x = by_id[instruction.operand_ids[0]].shape
    if x.element_type not in _FLOATS:
        _refuse("NCC_EVRF013", f"TopK does not support element type {x.element_type}")
    config = instruction.backend_config.decode(errors="replace")
    if not re.fullmatch("[1-9][0-9]*", config) or int(config) > x.dimensions[-1]:
        _refuse("NCC_INLA001", f"TopK has backend_config {config!r}, not the number of elements")
    parts = [(s.element_type, list(s.dimensions)) for s in instruction.shape.tuple_shapes]
    dims = [*list(x.dimensions)[:-1], int(config)]
    if instruction.shape.element_type != _TUPLE or parts != [(x.element_type, dims), (_U32, dims)]:
        _refuse("NCC_INLA001", f"TopK gives {parts}, not (values, u32 places) of {dims}")


def _refuse(code: str, text: str) -> None:
    message = f"{code} {text}"
    raise ValueError(message)


def run_calls(text: str) -> str:
    """StableHLO ``text`` with ``chlo.top_k`` in the place of every call."""
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        found: list[Any] = []

        def collect(op: Any) -> Any:
            if op.name == "stablehlo.custom_call":
                found.append(op)
            return ir.WalkResult.ADVANCE

        module.operation.walk(collect)
        for op in found:
            _replace(op)
        return str(module)


def _replace(op: Any) -> None:
    assert ir.StringAttr(op.attributes["call_target_name"]).value == TARGET
    k = int(ir.StringAttr(op.attributes["backend_config"]).value)
    x = op.operands[0].type
    dims = [*x.shape[:-1], k]

    def of(element: Any) -> Any:
        return ir.RankedTensorType.get(dims, element)

    with ir.InsertionPoint(op):
        attributes = {"k": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), k)}
        top = ir.Operation.create(
            "chlo.top_k",
            results=[of(x.element_type), of(ir.IntegerType.get_signless(32))],
            operands=[op.operands[0]],
            attributes=attributes,
        )
        places = ir.Operation.create(
            "stablehlo.convert",
            results=[of(ir.IntegerType.get_unsigned(32))],
            operands=[top.results[1]],
        )
    parts = (top.results[0], places.results[0])
    for read in [use.owner for use in op.results[0].uses]:
        assert read.name == "stablehlo.get_tuple_element"
        number = ir.IntegerAttr(read.attributes["index"]).value
        read.results[0].replace_all_uses_with(parts[number])
        read.operation.erase()
    op.erase()
