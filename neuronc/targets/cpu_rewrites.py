"""What XLA:CPU wants said differently: products of few rows, of half-precision weights, and angles.

XLA:CPU widens a half-precision or 8-bit weight to f32 in memory before every dot, which for the few
rows of a decode step costs several times the dot. Written as one vector product per row, the
widening fuses into the loop that reads the weight. The sums are f32 either way and rounded once.

One row of f32 is written so too: that loop reads the weight from end to end, as fast as memory
gives it, where the product of Eigen reads eight of its rows in turns.

For many rows there are kernels that multiply bf16 as it is; XLA takes them for products whose result
is f32, so the rounding is written after the product. Where the processor cannot multiply bf16 they
are slower than widened operands, so there the widening is written.

Sine and cosine of rotary embeddings XLA takes for cheap, and computes again wherever they are read.
"""

from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import dims_of, full, part_of
from neuronc.targets.host import multiplies_bf16
from neuronc.trace.program_spec import ProgramSignature

MAX_ROWS = 4  # every row reads the weight once more; from about 8 rows a widened copy is faster
MAX_DEPTH = 4032  # XLA fuses into a vector product only while the vector is under 16 KiB of f32
_HALF = ("bf16", "f16")
_QUANTIZED = ("i8", "f8e4m3fn")  # dtypes of quantised weights, and their MLIR types
_QUANTIZED_MLIR = ("i8", "f8E4M3FN")


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
        for op in _products(module, _is_few_row_product):
            with ir.InsertionPoint(op):
                product = _by_rows(op.operands[0], stored_weight(op.operands[1]))
                result = hlo.convert(op.results[0].type, product)
            op.results[0].replace_all_uses_with(result)
            op.erase()
        has_bf16 = multiplies_bf16() if bf16 is None else bf16
        for op in _products(module, _is_bf16_product):
            (_sum_wide if has_bf16 else _multiply_wide)(op)
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
        value.replace_all_uses_with(_apart(kept.results[0]))
    op.erase()


def _is_few_row_product(op: Any) -> bool:
    """Whether this is ``x[rows, depth]`` times ``weight[out, depth]`` as `_by_rows` is faster at."""
    x, weight = (operand.type for operand in op.operands)
    if len(x.shape) != 2 or len(weight.shape) != 2 or x.shape[0] > MAX_ROWS:
        return False
    if dims_of(op, "contracting") != ([1], [1]):
        return False
    stored = str(stored_weight(op.operands[1]).type.element_type)
    if stored in _QUANTIZED_MLIR:
        return True
    given = str(x.element_type)
    return (given in _HALF and stored in _HALF) or (given == stored == "f32" and _is_one_row(op))


def _is_one_row(op: Any) -> bool:
    """Whether one row, of a depth that is one piece, meets a weight as it is stored."""
    x, weight = op.operands
    rows, depth = x.type.shape
    return rows == 1 and depth <= MAX_DEPTH and isinstance(weight, ir.BlockArgument)


def _is_bf16_product(op: Any) -> bool:
    """Whether both operands are bf16, and the first has more rows than a decode step's."""
    rows = op.operands[0].type.shape[-2:-1]
    types = {str(operand.type.element_type) for operand in op.operands}
    return rows != [] and rows[0] > MAX_ROWS and types == {"bf16"}


def _sum_wide(op: Any) -> None:
    """Give ``op`` an f32 result; one of bf16 is rounded after it."""
    _replace_product(op, list(op.operands))


def _multiply_wide(op: Any) -> None:
    """Give ``op`` f32 operands: bf16's kernels take 1.4 times as long without instructions."""
    with ir.InsertionPoint(op):
        operands = [_widen(operand) for operand in op.operands]
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


def stored_weight(weight: Any) -> Any:
    """The quantised weight that ``weight`` is a conversion of, or ``weight`` itself."""
    if getattr(weight.owner, "name", "") != "stablehlo.convert":
        return weight
    source = weight.owner.operands[0]
    return source if str(source.type.element_type) in _QUANTIZED_MLIR else weight


def _by_rows(x: Any, weight: Any) -> Any:
    """f32 ``[rows, out]``: the sum over pieces of the depth of one vector product per row."""
    out, depth = weight.type.shape
    pieces = -(-depth // MAX_DEPTH)
    total = None
    for begin, end in pairwise(depth * piece // pieces for piece in range(pieces + 1)):
        wide = _widen(_part(weight, (0, begin), (out, end)))
        columns = hlo.transpose(wide, ir.DenseI64ArrayAttr.get([1, 0]))
        part = _apart(_widen(_part(x, (0, begin), (x.type.shape[0], end))))
        if total is None:
            total = _row_products(part, columns)
        else:  # XLA would fuse a sum into the dot, and then widen the weight in memory again
            total = hlo.subtract(total, _row_products(hlo.negate(part), columns))
    return total


def _row_products(x: Any, columns: Any) -> Any:
    rows, depth = x.type.shape
    products = [
        _vector_product(_part(x, (row, 0), (row + 1, depth)), columns) for row in range(rows)
    ]
    return products[0] if rows == 1 else hlo.concatenate(products, 0)


def _vector_product(row: Any, columns: Any) -> Any:
    numbers = hlo.DotDimensionNumbers.get([], [], [1], [0])
    result = ir.RankedTensorType.get([1, columns.type.shape[1]], ir.F32Type.get())
    return hlo.dot_general(result, row, columns, numbers)


def _apart(x: Any) -> Any:
    """f32 ``x``, which XLA computes before what reads it, a loop over a weight say.

    It fuses into such a loop what is before it, but no division, and it moves a reshape down
    to a product unless numbers of another shape come in between. Either would be done again for
    every element of the loop. What divides here is one, and XLA does not find out.
    It is another number for every place, as far as XLA knows: what is the same along a dim XLA would
    turn into a factor, and that is fused.
    """
    i32 = ir.IntegerType.get_signless(32)
    places = ir.RankedTensorType.get(x.type.shape, i32)
    counted = reduce(hlo.add, [_counted(places, dim) for dim in range(len(x.type.shape))])
    end = full(places, ir.IntegerAttr.get(i32, 2**31 - 1))
    inside = hlo.compare(counted, end, hlo.ComparisonDirectionAttr.get("LT"))
    one, two = (full(x.type, ir.FloatAttr.get(ir.F32Type.get(), number)) for number in (1.0, 2.0))
    return hlo.divide(x, hlo.select(inside, one, two))


def _counted(places: Any, dim: int) -> Any:
    return hlo.iota(places, ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim))


def _part(tensor: Any, begin: tuple[int, int], end: tuple[int, int]) -> Any:
    if begin == (0, 0) and list(end) == list(tensor.type.shape):
        return tensor
    return part_of(tensor, begin, end)


def _widen(tensor: Any) -> Any:
    wide = ir.RankedTensorType.get(tensor.type.shape, ir.F32Type.get())
    if tensor.type == wide:
        return tensor
    return hlo.convert(wide, tensor)
