"""Attention of prefill over the filled part of the KV cache, which XLA:CPU cannot tell from a mask.

A cache has room for the longest sequence, and most of it is empty most of the time: what a mask hides
costs as much as what it shows. Here scores, softmax and mixing become a loop over blocks of keys that
ends behind the last one written. The softmax is the online one (Milakov and Gimelshein,
arXiv:1805.02867): the largest score, the total and the mix are carried from block to block in f32,
and rescaled where a larger score comes.

A decode step stays as it is: it copies more than it computes, and XLA:CPU's loops copy with one thread.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import dims_of, full, i32, main_of, name_of, shape_of
from neuronc.targets.cpu_key_block import KeyBlock, is_of_caches
from neuronc.trace.program_spec import ProgramSignature

_BLOCKS = 64, 128, 512
"""Keys in a block: fewest, usual, and most. A turn of the loop takes tens of us however few it has."""

_LOWEST = -3.4028234663852886e38  # of f32; not -inf, whose differences are no numbers


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """``product = softmax(scores) @ values`` as it stands in a program.

    Attributes:
        product: ``dot_general``, whose first operand is ``[*rows, L]``.
        scores: f32 ``[..., L]``, masked; its other dims are the rows, cut otherwise.
        values_dim: Which dim of the second operand is L.
    """

    product: Any
    scores: Any
    values_dim: int

    @property
    def block(self) -> int:
        """Keys in a block."""
        return block_size(shape_of(self.scores)[-1])


def attend_to_filled(text: str, signature: ProgramSignature) -> str:
    """StableHLO ``text`` of one rank whose attention ends behind the last key that was written.

    Programs that are no prefill stay, and so does attention that looks otherwise (with sinks, say), or
    to a cache that has no equal blocks.
    """
    numbers = {t.name: n for n, t in enumerate(signature.inputs) if t.kind == "data"}
    caches = {n for n, t in enumerate(signature.inputs) if t.kind == "cache"}
    if "start" not in numbers:
        return text  # no prefill
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        main = main_of(module)
        block = main.regions[0].blocks[0]
        found = [match for op in block.operations if (match := _match(op, caches))]
        if not found:
            return text
        with ir.InsertionPoint.at_block_begin(block):
            filled = _filled(*(block.arguments[numbers[name]] for name in ("start", "length")))
        for attention in found:
            _attend_by_blocks(attention, filled)
        return str(module)


def _match(op: Any, caches: set[int]) -> _Attention | None:
    """The attention to one of the inputs ``caches`` that ends in the product ``op``, if there is one."""
    if op.name != "stablehlo.dot_general":
        return None
    scores = _softmax_of(_through(op.operands[0], "convert", "reshape"))
    if scores is None or not _is_by_row(op, scores):
        return None
    (values_dim,), length = dims_of(op, "contracting")[1], shape_of(scores)[-1]
    if block_size(length) == length or not is_of_caches(op.operands[1], values_dim, caches):
        return None
    return _Attention(product=op, scores=scores, values_dim=values_dim)


def _softmax_of(value: Any) -> Any:
    """The f32 scores of which ``value`` is the softmax along their last dim; None if it is not."""
    if name_of(value) != "divide":
        return None
    exponential, total = value.owner.operands
    if name_of(exponential) != "exponential":
        return None
    (shifted,) = exponential.owner.operands
    if name_of(shifted) != "subtract" or not _is_reduced(total, exponential, "add"):
        return None
    scores, largest = shifted.owner.operands
    is_f32 = str(scores.type.element_type) == "f32"
    return scores if is_f32 and _is_reduced(largest, scores, "maximum") else None


def _is_by_row(op: Any, scores: Any) -> bool:
    """Whether ``op`` is ``[*rows, L] @ values`` with a result ``[*rows, V]``, L that of ``scores``."""
    rows, length = shape_of(op.operands[0])[:-1], shape_of(op.operands[0])[-1]
    batch, contracting = dims_of(op, "batching")[0], dims_of(op, "contracting")[0]
    is_plain = batch == list(range(len(batch))) and contracting == [len(rows)]
    same_rows = shape_of(op.results[0])[:-1] == rows
    return is_plain and same_rows and length == shape_of(scores)[-1]


def _through(value: Any, *names: str) -> Any:
    while name_of(value) in names:
        value = value.owner.operands[0]
    return value


def _is_reduced(value: Any, source: Any, how: str) -> bool:
    """Whether ``value`` is the reduction of ``source`` along its last dim, as wide as it."""
    reduced = _through(value, "broadcast_in_dim", "reshape")
    if name_of(reduced) != "reduce" or reduced.owner.operands[0] != source:
        return False
    op = reduced.owner
    (body,) = op.regions[0].blocks
    last = len(shape_of(source)) - 1
    is_last = list(op.attributes["dimensions"]) == [last]
    return is_last and body.operations[0].name == f"stablehlo.{how}"


def block_size(length: int) -> int:
    """Keys in a block of a cache of ``length``: all of them where it has no equal parts to speak of."""
    fewest, usual, most = _BLOCKS
    eighth = 2 ** (length // 8).bit_length() // 2  # or the power of two below it
    found = gcd(length, min(most, max(usual, eighth)))
    return found if found >= fewest else length


def _filled(start: Any, length: Any) -> Any:
    """i32: how many cache positions hold keys, those that this call writes among them."""
    scalar = ir.RankedTensorType.get([], ir.IntegerType.get_signless(32))
    return hlo.reshape(scalar, hlo.add(start, length))


def _attend_by_blocks(attention: _Attention, filled: Any) -> None:
    product, size = attention.product, attention.block
    rows = shape_of(attention.scores)[:-1]
    with ir.InsertionPoint(product):
        end = hlo.divide(hlo.add(filled, i32(size - 1)), i32(size))
        begin = [
            i32(0),
            _full(rows, _LOWEST),
            _full(rows, 0.0),
            _full(shape_of(product.results[0]), 0.0),
        ]
        types = [value.type for value in begin]
        loop = hlo.WhileOp(types, begin)
        test, body = (region.blocks.append(*types) for region in loop.regions)
        with ir.InsertionPoint(test):
            less = hlo.ComparisonDirectionAttr.get("LT")
            hlo.return_([hlo.compare(test.arguments[0], end, less)])
        with ir.InsertionPoint(body):
            hlo.return_(_turn(attention, *body.arguments))
        _, _, total, mix = loop.results
        mean = hlo.divide(mix, _per_row(total, mix))
        result = hlo.convert(product.results[0].type, mean)
    product.results[0].replace_all_uses_with(result)
    product.erase()


def _turn(attention: _Attention, turn: Any, largest: Any, total: Any, mix: Any) -> list[Any]:
    """What the loop carries on from block ``turn``."""
    product, size = attention.product, attention.block
    keys = KeyBlock(begin=hlo.multiply(turn, i32(size)), size=size)
    scores = keys.of(attention.scores, len(shape_of(attention.scores)) - 1)
    found = hlo.maximum(largest, _reduced(scores, _full([], _LOWEST), hlo.maximum))
    kept = hlo.exponential(hlo.subtract(largest, found))
    weights = hlo.exponential(hlo.subtract(scores, _per_row(found, scores)))
    total = hlo.add(hlo.multiply(total, kept), _reduced(weights, _full([], 0.0), hlo.add))
    read = product.operands[0].type
    narrow = hlo.convert(ir.RankedTensorType.get(weights.type.shape, read.element_type), weights)
    left = hlo.reshape(ir.RankedTensorType.get([*read.shape[:-1], size], read.element_type), narrow)
    part = ir.Operation.create(
        "stablehlo.dot_general",
        results=[mix.type],
        operands=[left, keys.of(product.operands[1], attention.values_dim)],
        attributes={name: product.attributes[name] for name in product.attributes},
    ).results[0]
    mix = hlo.add(hlo.multiply(mix, _per_row(kept, mix)), part)
    return [hlo.add(turn, i32(1)), found, total, mix]


def _per_row(numbers: Any, tensor: Any) -> Any:
    """A number for each row as wide as ``tensor``, whose dims but the last may be cut otherwise."""
    rows = shape_of(tensor)[:-1]
    cut = hlo.reshape(ir.RankedTensorType.get(rows, numbers.type.element_type), numbers)
    dims = ir.DenseI64ArrayAttr.get(list(range(len(rows))))
    return hlo.broadcast_in_dim(tensor.type, cut, dims)


def _reduced(tensor: Any, begin: Any, how: Any) -> Any:
    """``tensor`` reduced along its last dim."""
    *rows, _ = shape_of(tensor)
    result = ir.RankedTensorType.get(rows, tensor.type.element_type)
    op = hlo.ReduceOp([result], [tensor], [begin], ir.DenseI64ArrayAttr.get([len(rows)]))
    body = op.regions[0].blocks.append(begin.type, begin.type)
    with ir.InsertionPoint(body):
        hlo.return_([how(*body.arguments)])
    return op.results[0]


def _full(shape: list[int], value: float) -> Any:
    f32 = ir.F32Type.get()
    return full(ir.RankedTensorType.get(shape, f32), ir.FloatAttr.get(f32, value))
