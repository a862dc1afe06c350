"""What XLA:CPU wants said differently: products of few rows, those of bf16, and angles.

Products of few rows are one loop over the weight: see `cpu_few_rows`.

For more rows there are kernels that multiply bf16 as it is; XLA takes them for products whose result
is f32, so the rounding is written after the product. Where the processor cannot multiply bf16 they
are slower than widened operands for a prompt's rows and in attention, so there the widening is written.

Sine and cosine of rotary embeddings XLA takes for cheap, and computes again wherever they are read.
"""

from collections.abc import Callable
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_few_rows import (
    MAX_ROWS,
    in_one_loop,
    is_few_row_product,
    max_rows,
    stored_weight,
)
from neuronc.targets.cpu_ir import apart, widen
from neuronc.targets.host import multiplies_bf16
from neuronc.trace.program_spec import ProgramSignature

WIDE_ROWS = 64  # of a linear layer: from here on bf16's kernels in software are slower than widened operands
_HALF = ("bf16", "f16")
_QUANTIZED = ("i8", "f8e4m3fn")


def rewrite_for_cpu(text: str, signature: ProgramSignature, *, bf16: bool | None = None) -> str:
    """StableHLO ``text`` of one rank as XLA:CPU runs it fastest; same interface, same sums.

    A program without inputs of floating point or 8 bits comes back as it is.

    Args:
        text: The program.
        signature: Its inputs and outputs.
        bf16: Whether the processor multiplies bf16; this machine's if None.
    """
    if not any(tensor.dtype in (*_HALF, *_QUANTIZED, "f32") for tensor in signature.inputs):
        return text
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        for op in _products(module, is_few_row_product):
            with ir.InsertionPoint(op):
                product = in_one_loop(op.operands[0], stored_weight(op.operands[1]))
                kind = op.results[0].type
                result = apart(product) if kind == product.type else hlo.convert(kind, product)
            op.results[0].replace_all_uses_with(result)
            op.erase()
        has_bf16 = multiplies_bf16() if bf16 is None else bf16
        for op in _products(module, _is_bf16_product):
            (_sum_wide if has_bf16 or _is_linear_of_some_rows(op) else _multiply_wide)(op)
        for op in _found(module, "cosine", "sine"):
            _compute_once(op)
        return str(module)


def _products(module: ir.Module, is_wanted: Callable[[Any], bool]) -> list[Any]:
    return [op for op in _found(module, "dot_general") if is_wanted(op)]


def _found(module: ir.Module, *names: str) -> list[Any]:
    found: list[Any] = []

    def collect(op: Any) -> Any:
        if op.name in [f"stablehlo.{name}" for name in names]:
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    return found


def _compute_once(op: Any) -> None:
    """Keep the angles of rotary embeddings: XLA takes their functions for cheap, and fuses them.

    They would be computed again in every layer, for every head.
    """
    (value,) = op.results
    if str(value.type.element_type) != "f32" or not value.type.shape:
        return
    with ir.InsertionPoint(op):
        kept = op.operation.clone()
        value.replace_all_uses_with(apart(kept.results[0]))
    op.erase()


def _is_bf16_product(op: Any) -> bool:
    """Whether both operands are bf16, and the first has more rows than a loop over the weight takes.

    One that `in_one_loop` makes of 8-bit weights is gone by now; others of them, of experts say, are not.
    """
    types = {str(operand.type.element_type) for operand in op.operands}
    return _rows_of(op) > min(max_rows(op), MAX_ROWS["bf16"]) and types == {"bf16"}


def _is_linear_of_some_rows(op: Any) -> bool:
    """Whether this is no product of attention, and of fewer rows than are worth a widened weight."""
    return len(op.operands[0].type.shape) == 2 and _rows_of(op) < WIDE_ROWS


def _rows_of(op: Any) -> int:
    """Of the first operand; 0 if it is a vector."""
    return int(next(iter(op.operands[0].type.shape[-2:-1]), 0))


def _sum_wide(op: Any) -> None:
    """Give ``op`` an f32 result; one of bf16 is rounded after it."""
    _replace_product(op, list(op.operands))


def _multiply_wide(op: Any) -> None:
    """Give ``op`` f32 operands."""
    with ir.InsertionPoint(op):
        operands = [widen(operand) for operand in op.operands]
    _replace_product(op, operands)


def _replace_product(op: Any, operands: list[Any]) -> None:
    result = op.results[0]
    with ir.InsertionPoint(op):
        wide = ir.Operation.create(
            "stablehlo.dot_general",
            results=[ir.RankedTensorType.get(result.type.shape, ir.F32Type.get())],
            operands=operands,
            attributes={name: op.attributes[name] for name in op.attributes},
        ).results[0]
        narrow = wide if result.type == wide.type else hlo.convert(result.type, wide)
        result.replace_all_uses_with(narrow)
    op.erase()
