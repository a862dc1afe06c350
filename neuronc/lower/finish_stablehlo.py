"""The second half of lowering, with jaxlib's MLIR: what torch-mlir leaves behind is cleaned up.

Shape constants fold away, 64-bit index arithmetic becomes 32-bit, and each stand-in call becomes
its StableHLO collective. What then is still f64, 64-bit, complex or dynamic is refused by name.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir, passmanager

from neuronc.dtypes import COMPUTE_DTYPES, DTYPES, numpy_dtype
from neuronc.lower.inline_layers import inline_layers
from neuronc.lower.lowering_error import leftover_error
from neuronc.lower.torch_to_stablehlo import CALL_PREFIX

_FOLD_LIMIT = 64  # elements; larger constants are data, not shapes
_NUMPY = {
    d.mlir: numpy_dtype(d)
    for d in DTYPES.values()
    if d.name in ("i32", "i64", "f64", *COMPUTE_DTYPES)
}


def finish_stablehlo(text: str, *, tp: int, graphs: Iterable[Any] = ()) -> str:
    """StableHLO ``text`` of one rank, ready for every target.

    Args:
        text: What `traced_to_stablehlo` gives.
        tp: Number of ranks.
        graphs: FX graphs that it was lowered from, to name what is refused.

    Raises:
        CompilerError: an element type or shape that no target takes is left; the operator is named.
    """
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        _fold_constants(module)
        _narrow_to_32_bit(module)
        _fold_weight_transposes(module)
        inline_layers(module)
        _calls_to_collectives(module, tp)
        passmanager.PassManager.parse("builtin.module(canonicalize,cse)").run(module.operation)
        _refuse_leftovers(module, graphs)
        return str(module)


def _operations(module: ir.Module) -> list[Any]:
    found: list[Any] = []

    def collect(op: Any) -> Any:
        found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    return found


def _fold_constants(module: ir.Module) -> None:
    """Fold convert and reshape of small constants, so that no f64 or i64 scalar stays."""
    values: dict[Any, np.ndarray[Any, Any]] = {}
    for op in _operations(module):
        if op.name in ("arith.constant", "stablehlo.constant"):
            value = _small_value(op.attributes["value"])
            if value is not None:
                values[op.results[0]] = value
            if op.name == "arith.constant":
                _replace_by_constant(op, op.attributes["value"], values, value)
        elif op.name in ("stablehlo.convert", "stablehlo.reshape") and op.operands[0] in values:
            result_type = op.results[0].type
            element = str(result_type.element_type)
            if element in _NUMPY:
                value = values[op.operands[0]].astype(_NUMPY[element]).reshape(result_type.shape)
                _replace_by_constant(op, _dense(value, result_type), values, value)


def _small_value(attribute: Any) -> "np.ndarray[Any, Any] | None":
    if not isinstance(attribute, ir.DenseElementsAttr):
        return None
    tensor_type = attribute.type
    if str(tensor_type.element_type) not in _NUMPY or np.prod(tensor_type.shape) > _FOLD_LIMIT:
        return None
    elements = attribute
    dtype = _NUMPY[str(tensor_type.element_type)]
    if elements.is_splat:
        return np.full(tensor_type.shape, elements.get_splat_value().value, dtype=dtype)
    return np.array(elements, dtype=dtype).reshape(tensor_type.shape)


def _dense(value: "np.ndarray[Any, Any]", tensor_type: Any) -> Any:
    return ir.DenseElementsAttr.get(
        np.ascontiguousarray(value), type=tensor_type.element_type, shape=tensor_type.shape
    )


def _replace_by_constant(
    op: Any, attribute: Any, values: dict[Any, Any], value: "np.ndarray[Any, Any] | None"
) -> None:
    with ir.InsertionPoint(op):
        new = ir.Operation.create(
            "stablehlo.constant", results=[op.results[0].type], attributes={"value": attribute}
        )
    op.results[0].replace_all_uses_with(new.results[0])
    if value is not None:
        values[new.results[0]] = value
    op.erase()


def _narrow_to_32_bit(module: ir.Module) -> None:
    """Every i64 tensor is an index, a position or a shape here: all fit 32 bits."""
    i32 = ir.IntegerType.get_signless(32)
    for op in _operations(module):
        inner = [arg for region in op.regions for block in region for arg in block.arguments]
        for result in (*op.results, *inner):
            if not isinstance(result.type, ir.RankedTensorType):
                continue
            if str(result.type.element_type) != "i64":
                continue
            narrow = ir.RankedTensorType.get(result.type.shape, i32)
            if op.name == "stablehlo.constant":
                elements = op.attributes["value"]
                wide = np.array(elements).reshape(result.type.shape)
                value = np.clip(wide, -(2**31), 2**31 - 1).astype(np.int32)
                op.attributes["value"] = _dense(value, narrow)
            result.set_type(narrow)
    for function in module.body.operations:
        if len(function.regions[0].blocks):
            _set_function_type(function)


def _set_function_type(function: Any) -> None:
    block = function.regions[0].blocks[0]
    inputs = [argument.type for argument in block.arguments]
    results = [operand.type for operand in block.operations[len(block.operations) - 1].operands]
    kind = ir.FunctionType.get(inputs, results)
    function.attributes["function_type"] = ir.TypeAttr.get(kind)


def _fold_weight_transposes(module: ir.Module) -> None:
    """``dot(x, transpose(w))`` becomes one ``dot_general`` that contracts the last dims.

    torch keeps a linear layer's weight as ``[out, in]``. Left as a transpose, XLA:CPU reads it by
    columns: three times slower decode.
    """
    numbers = ir.Attribute.parse(
        "#stablehlo.dot<lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [1]>"
    )
    for op in _operations(module):
        if not _is_plain_product(op):
            continue
        producer = op.operands[1].owner
        if getattr(producer, "name", "") != "stablehlo.transpose":
            continue
        with ir.InsertionPoint(op):
            new = ir.Operation.create(
                "stablehlo.dot_general",
                results=[op.results[0].type],
                operands=[op.operands[0], producer.operands[0]],
                attributes={"dot_dimension_numbers": numbers},
            )
        op.results[0].replace_all_uses_with(new.results[0])
        op.erase()


def _is_plain_product(op: Any) -> bool:
    """``[m, k] x [k, n]``, as a dot or as a dot_general that says the same."""
    if op.name == "stablehlo.dot":
        return len(op.operands[0].type.shape) == 2
    if op.name != "stablehlo.dot_general":
        return False
    numbers = op.attributes["dot_dimension_numbers"]
    plain = ir.Attribute.parse(
        "#stablehlo.dot<lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [0]>"
    )
    return bool(numbers == plain)


def _calls_to_collectives(module: ir.Module, tp: int) -> None:
    channel = 0
    for op in _operations(module):
        callee = str(op.attributes["callee"]).lstrip("@") if op.name == "func.call" else ""
        if callee.startswith(CALL_PREFIX):
            channel += 1
            kind = callee.removeprefix(CALL_PREFIX).rpartition("_")[0]
            _put_collective(op, kind, tp, channel)
    for op in _operations(module):
        if op.name == "func.func" and ir.StringAttr(op.attributes["sym_name"]).value.startswith(
            CALL_PREFIX
        ):
            op.erase()


def _put_collective(op: Any, kind: str, tp: int, channel: int) -> None:
    result_type = op.results[0].type
    groups = np.arange(tp, dtype=np.int64).reshape(1, tp)
    attributes = {
        "replica_groups": ir.DenseElementsAttr.get(groups),
        "channel_handle": ir.Attribute.parse(
            f"#stablehlo.channel_handle<handle = {channel}, type = 1>"
        ),
        "use_global_device_ids": ir.UnitAttr.get(),
    }
    if kind == "all_gather":
        last = len(result_type.shape) - 1
        attributes["all_gather_dim"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), last)
    regions = 1 if kind == "all_reduce" else 0
    with ir.InsertionPoint(op):
        new = ir.Operation.create(
            f"stablehlo.{kind}",
            results=[result_type],
            operands=[op.operands[0]],
            attributes=attributes,
            regions=regions,
        )
    if kind == "all_reduce":
        _add_sum_region(new, result_type.element_type)
    op.results[0].replace_all_uses_with(new.results[0])
    op.erase()


def _add_sum_region(op: Any, element_type: Any) -> None:
    scalar = ir.RankedTensorType.get([], element_type)
    block = ir.Block.create_at_start(op.regions[0], [scalar, scalar])
    with ir.InsertionPoint(block):
        total = ir.Operation.create(
            "stablehlo.add", results=[scalar], operands=list(block.arguments)
        )
        ir.Operation.create("stablehlo.return", operands=[total.results[0]])


def _refuse_leftovers(module: ir.Module, graphs: Iterable[Any]) -> None:
    refused: dict[str, list[str]] = {}
    for op in _operations(module):
        for result in op.results:
            if not isinstance(result.type, ir.RankedTensorType):
                continue
            element = str(result.type.element_type)
            dynamic = not result.type.has_static_shape
            if dynamic or element in ("f64", "i64", "index") or element.startswith("complex"):
                what = "a dynamic shape" if dynamic else f"element type {element}"
                refused.setdefault(what, []).append(str(op.location))
    for what, locations in refused.items():
        raise leftover_error(what, locations, graphs)
