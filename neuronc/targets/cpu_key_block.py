"""Values of a StableHLO program as they would be if there were only some of the keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import dims_of, i32, is_one_slot, name_of, shape_of

_ELEMENTWISE = ("add", "convert", "divide", "maximum", "minimum", "multiply", "subtract", "tanh")

CACHE_DIM = 1
"""Positions of a KV cache ``[batch, length, kv_heads, head_dim]``."""

Dims = Mapping[int, int]
"""Operand number to its dim; operands that are not there hold the same for every key."""


@dataclass(frozen=True, kw_only=True)
class KeyBlock:
    """``size`` keys from key ``begin`` on, an i32 of the program.

    What is made is made at the insertion point.
    """

    begin: Any
    size: int
    _made: dict[tuple[Any, int], Any] = field(default_factory=dict)

    def of(self, value: Any, dim: int) -> Any:
        """``value`` for these keys only, which are its dim ``dim``.

        It is made as ``value`` was, of parts, as far back as that goes key by key; there it is cut.
        """
        if (value, dim) not in self._made:
            self._made[value, dim] = self._part(value, dim)
        return self._made[value, dim]

    def _part(self, value: Any, dim: int) -> Any:
        name = name_of(value)
        if dim == CACHE_DIM and _is_one_slot(value):
            cache, slot = value.owner.operands
            return self._cut(cache, dim, slot=slot)
        dims = dims_before(value, dim)
        if dims is None:
            return self._cut(value, dim)
        op = value.owner
        attributes = {name: op.attributes[name] for name in op.attributes}
        if name == "slice":
            limits = list(attributes["limit_indices"])
            limits[dim] = self.size
            attributes["limit_indices"] = ir.DenseI64ArrayAttr.get(limits)
        shape = [*shape_of(value)[:dim], self.size, *shape_of(value)[dim + 1 :]]
        return ir.Operation.create(
            op.name,
            results=[ir.RankedTensorType.get(shape, value.type.element_type)],
            operands=[self.of(v, dims[n]) if n in dims else v for n, v in enumerate(op.operands)],
            attributes=attributes,
        ).results[0]

    def _cut(self, value: Any, dim: int, *, slot: Any = None) -> Any:
        """These keys of ``value``; of one ``slot`` ([1] i32) if given."""
        begins, sizes = [i32(0) for _ in shape_of(value)], shape_of(value)
        begins[dim], sizes[dim] = self.begin, self.size
        if slot is not None:
            begins[0], sizes[0] = hlo.reshape(self.begin.type, slot), 1
        return hlo.dynamic_slice(value, begins, ir.DenseI64ArrayAttr.get(sizes))


def is_of_caches(value: Any, dim: int, caches: set[int]) -> bool:
    """Whether dim ``dim`` of ``value`` is the positions of one of the inputs ``caches``."""
    left, seen = [(value, dim)], set()
    while left:
        value, dim = left.pop()
        if isinstance(value, ir.BlockArgument):
            if value.arg_number in caches and dim == CACHE_DIM:
                return True
            continue
        if (value, dim) in seen:
            continue
        seen.add((value, dim))
        if name_of(value) == "scatter" or (dim == CACHE_DIM and _is_one_slot(value)):
            left.append((value.owner.operands[0], dim))
        for number, before in (dims_before(value, dim) or {}).items():
            left.append((value.owner.operands[number], before))
    return False


def dims_before(value: Any, dim: int) -> Dims | None:
    """Which dims of its operands dim ``dim`` of ``value`` comes from, index by index.

    None where that is not so, or not known.
    """
    name = name_of(value)
    if name in _ELEMENTWISE:
        return dict.fromkeys(range(len(value.owner.operands)), dim)
    find = _BEFORE.get(name)
    return None if find is None else find(value, dim)


def _before_broadcast(value: Any, dim: int) -> Dims | None:
    (source,) = value.owner.operands
    dims = list(value.owner.attributes["broadcast_dimensions"])
    is_there = dim in dims and shape_of(source)[dims.index(dim)] == shape_of(value)[dim]
    return {0: dims.index(dim)} if is_there else {}


def _before_concatenate(value: Any, dim: int) -> Dims | None:
    if ir.IntegerAttr(value.owner.attributes["dimension"]).value == dim:
        return None
    return dict.fromkeys(range(len(value.owner.operands)), dim)


def _before_product(value: Any, dim: int) -> Dims | None:
    """A product's dims are those of the batch, then the free ones of either operand."""
    batch, contracting = (dims_of(value.owner, kind) for kind in ("batching", "contracting"))
    num_batch = len(batch[0])
    if dim < num_batch:
        return {number: batch[number][dim] for number in (0, 1)}
    free = [
        (number, d)
        for number, operand in enumerate(value.owner.operands)
        for d in range(len(shape_of(operand)))
        if d not in (*batch[number], *contracting[number])
    ]
    return dict([free[dim - num_batch]])


def _before_reshape(value: Any, dim: int) -> Dims | None:
    (source,) = value.owner.operands
    before, length = prod(shape_of(value)[:dim]), shape_of(value)[dim]
    for number, size in enumerate(shape_of(source)):
        if size == length and prod(shape_of(source)[:number]) == before:
            return {0: number}
    return None


def _before_slice(value: Any, dim: int) -> Dims | None:
    """Key n of the slice is key n of what is sliced."""
    begin, step = (value.owner.attributes[name][dim] for name in ("start_indices", "strides"))
    return {0: dim} if (begin, step) == (0, 1) else None


def _before_transpose(value: Any, dim: int) -> Dims | None:
    return {0: list(value.owner.attributes["permutation"])[dim]}


_BEFORE: dict[str, Callable[[Any, int], Dims | None]] = {
    "broadcast_in_dim": _before_broadcast,
    "concatenate": _before_concatenate,
    "dot_general": _before_product,
    "reshape": _before_reshape,
    "slice": _before_slice,
    "transpose": _before_transpose,
}


def _is_one_slot(value: Any) -> bool:
    return name_of(value) == "gather" and is_one_slot(value.owner)
