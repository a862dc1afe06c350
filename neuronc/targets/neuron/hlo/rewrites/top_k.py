"""Top-k, as XLA's own operator or as a sort of which the first elements are read.

Each round takes the best that is left, the first of equal ones, and strikes it out. On request the
compiler's own custom call takes the place of the rounds.
"""

from dataclasses import dataclass
from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.element_types import (
    FLOATS,
    S32,
    TUPLE,
    U32,
    highest,
    lowest,
)
from neuronc.targets.neuron.hlo.rewrites.builder import Builder, describe
from neuronc.targets.neuron.hlo.rewrites.ordering import (
    TOTAL_ASCENDING,
    TOTAL_DESCENDING,
    Order,
    emit_keys,
    emit_positions,
)
from neuronc.targets.neuron.hlo.rewrites.positions import is_iota
from neuronc.targets.neuron.hlo.rewrites.sort import MAX_SORTED, emit_sorted, order_of, take

MAX_ROUNDS = 64
"""Largest k that is taken by rounds: the program grows by a dozen instructions with each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _TopK:
    """The ``k`` first elements of each operand along ``dim``, in the order of ``key``."""

    operands: list[Any]
    key: Any
    order: Order
    dim: int
    k: int

    @property
    def size(self) -> int:
        return int(self.key.shape.dimensions[self.dim])


CALL = "AwsNeuronTopK"
"""neuronx-cc's own top-k: ``backend_config`` is k in decimal, the result (values, u32 places)."""

_PLAIN_DESCENDING = Order(descending=True, first_nan="both")
"""What torch's top-k means: of equal values the first, NaN before all."""


def rewrite_top_k(builder: Builder, instruction: Any, *, call: bool = False) -> Any:
    """The rule for ``topk``, the custom call ``TopK``, and a sort that is read from its start.

    The compiler's own `CALL` is used only with ``call``, and where it can say what is asked: which
    of equal values it gives first is not documented, and nothing else can run it, so that its
    numbers cannot be verified.

    Raises:
        CompilerError: k is too large.
    """
    if instruction.opcode == "sort":
        top = _of_sort(builder, instruction)
    elif instruction.opcode == "topk" or instruction.custom_call_target == "TopK":
        top = _of_top_k(builder, instruction)
    else:
        return None
    if top is None:
        return None
    parts = _emit_call(builder, top) if call and _can_be_called(builder, top) else None
    parts = parts or _emit(builder, top, instruction)
    return parts[0] if instruction.shape.element_type != TUPLE else builder.tuple_of(*parts)


def rewrite_call(builder: Builder, instruction: Any) -> Any:
    """The rule for `CALL`: the rounds in its place, for what cannot run it."""
    if instruction.opcode != "custom-call" or instruction.custom_call_target != CALL:
        return None
    (x,) = builder.operands(instruction)
    dims = list(x.shape.dimensions)
    dim, dtype = len(dims) - 1, instruction.shape.tuple_shapes[1].element_type
    operands = [x, builder.iota(dtype, dims, dim)]
    k = int(instruction.backend_config)
    top = _TopK(operands=operands, key=x, order=_PLAIN_DESCENDING, dim=dim, k=k)
    return builder.tuple_of(*_emit(builder, top, instruction))


def _of_sort(builder: Builder, sort: Any) -> _TopK | None:
    operands, dim = builder.operands(sort), sort.dimensions[0]
    k = _length_read(builder, sort, dim)
    if not k or k > MAX_ROUNDS:
        return None
    key, order = order_of(builder, sort)
    return _TopK(operands=operands, key=operands[key], order=order, dim=dim, k=k)


def _length_read(builder: Builder, sort: Any, dim: int) -> int | None:
    """How many elements from the start of ``sort``'s results are read; None for all."""
    results = [sort]
    if sort.shape.element_type == TUPLE:
        results = builder.users.get(sort.id, [])
    if any(r.opcode != "get-tuple-element" for r in results if r is not sort):
        return None
    readers = [user for result in results for user in builder.users.get(result.id, [])]
    if not readers or any(result.id == builder.root_id for result in results):
        return None
    cuts = [r.slice_dimensions[dim] for r in readers if r.opcode == "slice"]
    if len(cuts) < len(readers) or any(cut.start or cut.stride != 1 for cut in cuts):
        return None
    return max(int(cut.limit) for cut in cuts)


def _of_top_k(builder: Builder, instruction: Any) -> _TopK:
    (x,) = builder.operands(instruction)
    values, indices = instruction.shape.tuple_shapes
    dim = len(x.shape.dimensions) - 1
    if instruction.opcode == "topk":
        order = TOTAL_DESCENDING if instruction.largest else TOTAL_ASCENDING
    elif instruction.called_computation_ids:
        _, order = order_of(builder, instruction)
    else:
        order = TOTAL_DESCENDING
    places = builder.iota(indices.element_type, list(x.shape.dimensions), dim)
    return _TopK(operands=[x, places], key=x, order=order, dim=dim, k=values.dimensions[dim])


def _can_be_called(builder: Builder, top: _TopK) -> bool:
    """Whether it is the largest floats along the last dim, and where they are."""
    others = [x for x in top.operands if x is not top.key]
    is_last = top.dim == len(top.key.shape.dimensions) - 1
    is_of_floats = top.key.shape.element_type in FLOATS and top.order.descending
    return is_last and is_of_floats and all(is_iota(builder, x, top.dim) for x in others)


def _emit_call(builder: Builder, top: _TopK) -> list[Any]:
    x = top.key
    dims = [*list(x.shape.dimensions)[:-1], top.k]
    config = str(top.k).encode()
    call = builder.emit("custom-call", TUPLE, (), x, custom_call_target=CALL, backend_config=config)
    for dtype in (x.shape.element_type, U32):
        call.shape.tuple_shapes.add(element_type=dtype, dimensions=dims)
    values, places = (
        builder.emit("get-tuple-element", part.element_type, dims, call, tuple_index=number)
        for number, part in enumerate(call.shape.tuple_shapes)
    )
    return [
        values if operand is x else builder.convert(places, operand.shape.element_type)
        for operand in top.operands
    ]


def _emit(builder: Builder, top: _TopK, source: Any) -> list[Any]:
    if 1 <= top.k <= MAX_ROUNDS:
        return _emit_rounds(builder, top)
    if top.size > MAX_SORTED:
        message = f"HLO takes the first {top.k} of {top.size}: {describe(source)}"
        hint = f"neuronx-cc has no sort; take at most {MAX_ROUNDS}, or sort on the host"
        raise CompilerError(message, hint=hint)
    parts = emit_sorted(builder, top.operands, top.key, top.dim, top.order)
    return [_first(builder, part, top.dim, top.k) for part in parts]


def _first(builder: Builder, x: Any, dim: int, k: int) -> Any:
    dims = list(x.shape.dimensions)
    limits = [k if n == dim else size for n, size in enumerate(dims)]
    new = builder.emit("slice", x.shape.element_type, limits, x)
    for limit in limits:
        new.slice_dimensions.add(start=0, limit=limit, stride=1)
    return new


def _emit_rounds(builder: Builder, top: _TopK) -> list[Any]:
    dim, dims = top.dim, list(top.key.shape.dimensions)
    kept = [number for number in range(len(dims)) if number != dim]
    opcode = "maximum" if top.order.descending else "minimum"
    key, place = emit_keys(builder, top.key, dim, top.order)
    dtype, gone = key.shape.element_type, 2 * top.size  # no place is as high
    worst = lowest(dtype) if top.order.descending else highest(dtype)
    struck, at_end = builder.full(dtype, dims, worst), builder.full(S32, dims, gone)
    rounds: list[list[Any]] = []
    for _ in range(top.k):
        best = builder.reduce(opcode, key, dim, worst)
        hit = builder.compare(key, "EQ", builder.spread(best, dims, kept))
        first = builder.reduce(
            "minimum", builder.elementwise("select", hit, place, at_end), dim, gone
        )
        chosen = builder.compare(place, "EQ", builder.spread(first, dims, kept))
        rounds.append([_pick(builder, top, x, chosen, first) for x in top.operands])
        key = builder.elementwise("select", chosen, struck, key)
        place = builder.elementwise("select", chosen, at_end, place)
    return [_stack(builder, parts, dim) for parts in zip(*rounds, strict=True)]


def _pick(builder: Builder, top: _TopK, x: Any, chosen: Any, first: Any) -> Any:
    if not is_iota(builder, x, top.dim):
        return take(builder, chosen, x, top.dim)
    if top.key.shape.element_type in FLOATS:
        first = emit_positions(builder, first, top.size)
    return builder.convert(first, x.shape.element_type)


def _stack(builder: Builder, parts: tuple[Any, ...], dim: int) -> Any:
    dtype = parts[0].shape.element_type
    dims = list(parts[0].shape.dimensions)
    dims.insert(dim, 1)
    rows = [builder.emit("reshape", dtype, dims, part) for part in parts]
    dims[dim] = len(parts)
    return builder.emit("concatenate", dtype, dims, *rows, dimensions=[dim])
