"""Products of a few rows, as those of a decode step, written as one loop over the weight.

XLA:CPU widens a half-precision or 8-bit weight to f32 in memory before every dot, and lays an f32 one
out for its kernels, which for few rows costs several times the dot. Written as a vector product, both
fuse into the loop that reads the weight, from end to end, as fast as memory gives it, and each row of
the weight meets all rows of the input while it is in the cache. The sums are f32 either way and
rounded once.
"""

from itertools import pairwise
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import apart, dims_of, full, part_of, widen

# For more rows a dot is faster, by measurement. By MLIR type of the weight; others than f32 are widened
# again for every row, fp8 in software.
MAX_ROWS = {"f32": 8, "bf16": 4, "f16": 16, "i8": 16, "f8E4M3FN": 2}
# An f32 input above both falls out of a core's first cache between two rows of the weight.
FEW_ROWS_F32, MAX_NUMBERS_F32 = 3, 8192
MAX_DEPTH = 4032  # XLA fuses into a vector product only while the vector is under 16 KiB of f32
_HALF = ("bf16", "f16")
_QUANTIZED = ("i8", "f8E4M3FN")  # MLIR types of quantised weights


def is_few_row_product(op: Any) -> bool:
    """Whether this is ``x[rows, depth]`` times ``weight[out, depth]`` as `in_one_loop` is faster at."""
    x, weight = (operand.type for operand in op.operands)
    if len(x.shape) != 2 or len(weight.shape) != 2 or dims_of(op, "contracting") != ([1], [1]):
        return False
    if x.shape[0] > max_rows(op) or dims_of(op, "batching") != ([], []):
        return False
    given, stored = x.element_type, stored_weight(op.operands[1])
    kind = str(stored.type.element_type)
    if kind == "f32":
        return str(given) == kind and isinstance(stored, ir.BlockArgument) and _is_small(x)
    return kind in _QUANTIZED or str(given) in _HALF


def max_rows(op: Any) -> int:
    """How many rows the product ``op`` may have to be made in one loop, by what its weight is stored in."""
    return MAX_ROWS.get(str(stored_weight(op.operands[1]).type.element_type), 0)


def _is_small(x: Any) -> bool:
    """Whether f32 ``x`` is in one piece, and stays in the cache while all of the weight is read."""
    rows, depth = x.shape
    return bool(depth <= MAX_DEPTH and (rows <= FEW_ROWS_F32 or rows * depth <= MAX_NUMBERS_F32))


def stored_weight(weight: Any) -> Any:
    """The quantised weight that ``weight`` is a conversion of, or ``weight`` itself."""
    if getattr(weight.owner, "name", "") != "stablehlo.convert":
        return weight
    source = weight.owner.operands[0]
    return source if str(source.type.element_type) in _QUANTIZED else weight


def in_one_loop(x: Any, weight: Any) -> Any:
    """f32 ``[rows, out]``: the sum over pieces of the depth of one vector product each.

    What adds to it has to be kept `apart`: XLA would fuse a sum into the vector product, and then make
    in memory what it reads.
    """
    out, depth = weight.type.shape
    pieces = -(-depth // MAX_DEPTH)
    product = _row_product if x.type.shape[0] == 1 else _rows_product
    total = None
    for begin, end in pairwise(depth * piece // pieces for piece in range(pieces + 1)):
        wide = widen(_part(weight, (0, begin), (out, end)))
        part = widen(_part(x, (0, begin), (x.type.shape[0], end)))
        if total is None:
            total = product(apart(part), wide)
        else:  # no sum, for the reason above
            total = hlo.subtract(total, product(apart(hlo.negate(part)), wide))
    return total


def _row_product(x: Any, weight: Any) -> Any:
    """``[1, out]`` of ``x[1, depth]``."""
    return _vector_product(x, _transposed(weight))


def _rows_product(x: Any, weight: Any) -> Any:
    """``[rows, out]``: ones times the products of numbers, which XLA makes while it sums them.

    For each row of the weight all rows of ``x``, each with a loop over the depth that LLVM turns
    into vector instructions; those of a sum (``reduce``) it does not. The ones cost nothing.
    """
    (rows, depth), out = x.type.shape, weight.type.shape[0]
    f32 = ir.F32Type.get()
    pairs = ir.RankedTensorType.get([out, rows, depth], f32)
    numbers = hlo.multiply(
        hlo.broadcast_in_dim(pairs, weight, _dims(0, 2)),
        hlo.broadcast_in_dim(pairs, x, _dims(1, 2)),
    )
    flat = hlo.reshape(ir.RankedTensorType.get([out * rows, depth], f32), numbers)
    ones = full(ir.RankedTensorType.get([1, depth], f32), ir.FloatAttr.get(f32, 1.0))
    sums = _vector_product(ones, _transposed(flat))
    return _transposed(hlo.reshape(ir.RankedTensorType.get([out, rows], f32), sums))


def _transposed(matrix: Any) -> Any:
    return hlo.transpose(matrix, _dims(1, 0))


def _dims(*dims: int) -> Any:
    return ir.DenseI64ArrayAttr.get(list(dims))


def _vector_product(row: Any, columns: Any) -> Any:
    numbers = hlo.DotDimensionNumbers.get([], [], [1], [0])
    result = ir.RankedTensorType.get([1, columns.type.shape[1]], ir.F32Type.get())
    return hlo.dot_general(result, row, columns, numbers)


def _part(tensor: Any, begin: tuple[int, int], end: tuple[int, int]) -> Any:
    if begin == (0, 0) and list(end) == list(tensor.type.shape):
        return tensor
    return part_of(tensor, begin, end)
