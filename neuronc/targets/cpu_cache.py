"""The KV cache as XLA:CPU reads it fastest.

A program as it was traced keeps ``[slots, length, kv_heads, head_dim]``. The products of attention want
keys as ``[slots * kv_heads, head_dim, length]`` and values as ``[slots * kv_heads, length, head_dim]``:
XLA:CPU then copies the whole cache into that order at every step. Here it lies in that order from the
start, and what is written is turned instead.

XLA:CPU also has no scatter of half-precision numbers: it widens the cache to f32 and narrows it again,
for one token. Here they are kept as integers of the same bits, and a run of positions is written as a
slice: what a call writes of a sequence follows each other (`neuronc.trace.rank_program`). Positions behind
the end are not written, as by a scatter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import i32, is_one_slot, main_of, part_of, scalar_at, shape_of, zeros
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

_ORDERS = {"keys": (0, 2, 3, 1), "values": (0, 2, 1, 3)}
"""Which dim of the traced cache is which of ours, before slots and heads are one: were they two, XLA
would make that one by itself, and write the cache twice for it."""

_BITS = {"bf16": "i16", "f16": "i16"}


def lay_out_inputs(signature: ProgramSignature) -> ProgramSignature:
    """``signature`` with the caches in and out as `lay_out_caches` has them."""
    return replace(
        signature,
        inputs=tuple(_laid_out(tensor) for tensor in signature.inputs),
        outputs=tuple(_laid_out(tensor) for tensor in signature.outputs),
    )


def _laid_out(tensor: TensorSpec) -> TensorSpec:
    if not _is_of_heads(tensor):
        return tensor
    slots, heads, *rest = (tensor.shape[dim] for dim in _order(tensor))
    return replace(
        tensor, shape=(slots * heads, *rest), dtype=_BITS.get(tensor.dtype, tensor.dtype)
    )


def _is_of_heads(tensor: TensorSpec) -> bool:
    return tensor.kind == "cache" and len(tensor.shape) == 4


def _order(tensor: TensorSpec) -> tuple[int, ...]:
    return _ORDERS[tensor.name.partition(".")[0]]


def lay_out_caches(text: str, signature: ProgramSignature) -> str:
    """StableHLO ``text`` of one rank with the caches of `lay_out_inputs`; the same numbers.

    Every program of an artifact takes the same caches. What reads or writes one in a way that is not
    known here is given it as it was traced: that copies, and is right.
    """
    caches = {n: t for n, t in enumerate(signature.inputs) if _is_of_heads(t)}
    if not caches:
        return text
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        main = main_of(module)
        block = main.regions[0].blocks[0]
        end = list(block.operations)[-1]
        outputs = {number: out for out, number in signature.aliases.items()}
        for number, tensor in caches.items():
            _lay_out(block.arguments[number], tensor, end, outputs[number])
        inputs = [argument.type for argument in block.arguments]
        kind = ir.FunctionType.get(inputs, [value.type for value in end.operands])
        main.attributes["function_type"] = ir.TypeAttr.get(kind)
        return str(module)


def _lay_out(argument: Any, tensor: TensorSpec, end: Any, out: int) -> None:
    order, traced = _order(tensor), argument.type
    argument.set_type(_kind(traced, order))
    views = _Views(order=order, heads=tensor.shape[order[1]], element=traced.element_type)
    views.add(argument, argument)
    is_written = views.follow(end, out)
    if not is_written:
        with ir.InsertionPoint(end):
            end.operands[out] = _turned(end.operands[out], order)


def _kind(traced: Any, order: Sequence[int]) -> Any:
    """The type of a part of a cache that was traced as ``traced``."""
    bits = _BITS.get(str(traced.element_type))
    element = ir.IntegerType.get_signless(16) if bits else traced.element_type
    slots, heads, *rest = (int(traced.shape[dim]) for dim in order)
    return ir.RankedTensorType.get([slots * heads, *rest], element)


def _turned(traced: Any, order: Sequence[int]) -> Any:
    """``traced`` as we keep it."""
    kind = _kind(traced.type, order)
    bits = ir.RankedTensorType.get(traced.type.shape, kind.element_type)
    if bits != traced.type:
        traced = hlo.bitcast_convert(bits, traced)
    return hlo.reshape(kind, hlo.transpose(traced, ir.DenseI64ArrayAttr.get(list(order))))


@dataclass(frozen=True, kw_only=True)
class _Views:
    """Values of the traced program that are a cache or a part of it, and the same as we keep it.

    Attributes:
        order: Of the cache's dims.
        heads: Of one slot.
        element: What it was traced with.
    """

    order: tuple[int, ...]
    heads: int
    element: Any
    _left: list[tuple[Any, Any]] = field(default_factory=list)

    def add(self, traced: Any, ours: Any) -> None:
        """``ours`` is ``traced``, all of whose users have to be told."""
        self._left.append((traced, ours))

    def follow(self, end: Any, out: int) -> bool:
        """Change every user; whether output ``out`` of the program is one of ours now."""
        is_written, dead = False, []
        while self._left:
            traced, ours = self._left.pop()
            for op, number in list(_users(traced)):
                if op == end and number == out:
                    end.operands[out] = ours
                    is_written = True
                    continue
                with ir.InsertionPoint(op):
                    made = self._made(op, number, ours)
                    if made is None:
                        op.operands[number] = self._as_traced(ours)
                        continue
                self.add(op.results[0], made)
                dead.append(op)
        for op in reversed(dead):
            op.erase()
        return is_written

    def _made(self, op: Any, number: int, ours: Any) -> Any:
        """What ``op`` makes of its operand ``number``, made of ``ours``; None if that is not known."""
        if number != 0:
            return None
        if _is_write(op):
            return self._write(ours, *list(op.operands)[1:])
        if is_one_slot(op):
            slot, zero = scalar_at(op.operands[1], [0]), i32(0)
            return self._slice(ours, [slot, zero, zero, zero], shape_of(op.results[0]))
        if op.name == "stablehlo.dynamic_slice":
            return self._slice(ours, list(op.operands)[1:], list(op.attributes["slice_sizes"]))
        if op.name == "stablehlo.slice":
            bounds = ("start_indices", "limit_indices", "strides")
            return self._static_slice(ours, *(list(op.attributes[bound]) for bound in bounds))
        return None

    def _slice(self, ours: Any, begins: list[Any], sizes: list[int]) -> Any:
        """The part of ``ours`` that is so much of the traced one; None if it is some of the heads."""
        slot, _, *rest = (begins[dim] for dim in self.order)
        slots, heads, *lengths = (sizes[dim] for dim in self.order)
        if heads != self.heads:
            return None
        begins = [hlo.multiply(slot, i32(heads)), *rest]
        return hlo.dynamic_slice(ours, begins, ir.DenseI64ArrayAttr.get([slots * heads, *lengths]))

    def _static_slice(self, ours: Any, begins: Any, ends: Any, steps: Any) -> Any:
        (slot, head, *begin), (last, heads, *end), (by_slot, by_head, *step) = (
            [bounds[dim] for dim in self.order] for bounds in (begins, ends, steps)
        )
        if (head, heads, by_slot, by_head) != (0, self.heads, 1, 1):
            return None
        return part_of(ours, [slot * heads, *begin], [last * heads, *end], [1, *step])

    def _as_traced(self, ours: Any) -> Any:
        size, *rest = shape_of(ours)
        kind = ir.RankedTensorType.get(
            [size // self.heads, self.heads, *rest], ours.type.element_type
        )
        back = [self.order.index(dim) for dim in range(len(self.order))]
        value = hlo.transpose(hlo.reshape(kind, ours), ir.DenseI64ArrayAttr.get(back))
        if value.type.element_type == self.element:
            return value
        kind = ir.RankedTensorType.get(value.type.shape, self.element)
        return hlo.bitcast_convert(kind, value)

    def _write(self, ours: Any, indices: Any, updates: Any) -> Any:
        """``updates`` ``[N, S, ...]``: of each sequence a run of positions in one slot."""
        count, *rest = shape_of(updates)
        for n in range(count):
            rows = part_of(updates, [n, *[0] * len(rest)], [n + 1, *rest])
            run = _turned(rows, self.order)
            slot, begin = (scalar_at(indices, [n, 0, column]) for column in (0, 1))
            first = hlo.multiply(slot, i32(self.heads))
            ours = _write_run(ours, run, first, begin, self.order.index(1) - 1)
        return ours


def _users(value: Any) -> Iterator[tuple[Any, int]]:
    for use in value.uses:
        yield use.owner, use.operand_number


def _is_write(op: Any) -> bool:
    """Whether ``op`` puts rows ``[N, S, ...]`` at (slot, position) of a cache."""
    if op.name != "stablehlo.scatter":
        return False
    numbers = hlo.ScatterDimensionNumbers(op.attributes["scatter_dimension_numbers"])
    (body,) = op.regions[0].blocks
    (only, *more) = body.operations
    replaces = not more and list(only.operands) == [body.arguments[1]]
    found = (
        numbers.update_window_dims,
        numbers.inserted_window_dims,
        numbers.scattered_dims_to_operand_dims,
    )
    is_by_place = [list(dims) for dims in found] == [[2, 3], [0, 1], [0, 1]]
    return replaces and is_by_place and numbers.index_vector_dim == 2


def _write_run(cache: Any, run: Any, first: Any, begin: Any, dim: int) -> Any:
    """``run`` at head ``first`` and positions (dim ``dim``) from ``begin`` on, as far as there are any.

    Where the end is too near, the slice lies before it, and what it holds is moved behind what was
    there.
    """
    size, length = shape_of(run)[dim], shape_of(cache)[dim]
    at = hlo.minimum(begin, i32(length - size))
    begins = [i32(0) for _ in shape_of(cache)]
    begins[0], begins[dim] = first, at
    sizes = ir.DenseI64ArrayAttr.get(shape_of(run))
    before = hlo.dynamic_slice(cache, begins, sizes)
    moved_by = hlo.subtract(begin, at)
    if size > 1:
        from_ = [i32(0) for _ in begins]
        from_[dim] = hlo.subtract(i32(size), moved_by)
        run = hlo.dynamic_slice(hlo.concatenate([zeros(run.type), run], dim), from_, sizes)
    counted = ir.RankedTensorType.get(shape_of(run), moved_by.type.element_type)
    number = hlo.iota(counted, ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim))
    first = hlo.broadcast_in_dim(counted, moved_by, ir.DenseI64ArrayAttr.get([]))
    is_new = hlo.compare(number, first, hlo.ComparisonDirectionAttr.get("GE"))
    return hlo.dynamic_update_slice(cache, hlo.select(is_new, run, before), begins)
