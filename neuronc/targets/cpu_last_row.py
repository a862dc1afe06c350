"""The last layer of a prefill for the one token whose logits are asked for.

A prefill ends with the logits of its last token, which a gather picks from all the tokens' hidden
states. What stands between the last layer's keys and values and that gather is computed here for
the picked row only: of N layers nearly one is saved. The gather moves up the program as long as
nothing else reads what it moves past, and every step is one that works row by row. Which row it is
has to be the same on every rank, for ranks add up what they compute.

Queries that are merged with keys and values into one product are still computed for all tokens.
"""

from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as hlo

from neuronc.targets.cpu_ir import i32, main_of, name_of, shape_of
from neuronc.targets.cpu_key_block import dims_before
from neuronc.trace.program_spec import ProgramSignature

# More than `dims_before` moves past: a mask that is made of comparisons stays as it is for all layers
# where attention looks at blocks of keys.
_BY_ELEMENT = (
    *("abs", "all_reduce", "and", "clamp", "compare", "cosine", "exponential"),
    *("exponential_minus_one", "log", "log_plus_one", "logistic", "negate", "not", "or", "power"),
    *("rsqrt", "select", "sign", "sine", "sqrt"),
)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Where a value has the rows: dim ``dim`` is ``[times, rows]``, as when heads share keys."""

    dim: int
    rows: int
    times: int = 1

    @property
    def size(self) -> int:
        """Of the dim."""
        return self.times * self.rows

    def of_one(self, shape: list[int]) -> list[int]:
        """``shape`` if there were one row."""
        return [*shape[: self.dim], self.times, *shape[self.dim + 1 :]]


def keep_last_row(text: str, signature: ProgramSignature) -> str:
    """StableHLO ``text`` of one rank where a row that is picked is the only one computed.

    Same interface and same sums. A program that picks no row comes back as it is, and so does one
    that picks by anything but the inputs of kind ``data``.
    """
    data = {number for number, tensor in enumerate(signature.inputs) if tensor.kind == "data"}
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        block = main_of(module).regions[0].blocks[0]
        picks = [
            op
            for op in block.operations
            if _picked_dim(op) is not None and _is_made_of(op.operands[1], data)
        ]
        moved = [_move_up(pick, list(block.operations)) for pick in picks]
        return str(module) if any(moved) else text


def _picked_dim(op: Any) -> int | None:
    """The dim of which ``op`` gathers one row of several, which stays as a dim of 1; or None."""
    if op.name != "stablehlo.gather" or shape_of(op.operands[1]) != [1]:
        return None
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    dims, starts = list(numbers.collapsed_slice_dims), list(numbers.start_index_map)
    if len(dims) != 1 or dims != starts:
        return None
    (dim,), shape = dims, shape_of(op.operands[0])
    is_picked = shape_of(op.results[0]) == [*shape[:dim], 1, *shape[dim + 1 :]]
    return dim if is_picked and shape[dim] > 1 else None


def _is_made_of(value: Any, inputs: set[int]) -> bool:
    """Whether ``value`` is computed from these inputs and constants alone."""
    left, seen = [value], set()
    while left:
        value = left.pop()
        if isinstance(value, ir.BlockArgument):
            if value.arg_number not in inputs:
                return False
        elif value not in seen:
            seen.add(value)
            left.extend(value.owner.operands)
    return True


def _move_up(pick: Any, operations: list[Any]) -> bool:
    """Compute the operand of ``pick`` for its row only; False if there is nothing to move past."""
    dim = _picked_dim(pick)
    assert dim is not None
    picked = pick.operands[0]
    rows = shape_of(picked)[dim]
    narrowed = _narrowed(pick, _Rows(dim=dim, rows=rows), operations)
    if not narrowed:
        return False
    with ir.InsertionPoint(pick):
        index = pick.operands[1]
        row = _Row(number=hlo.reshape(_typed(index, []), index))
        for op, place in reversed(narrowed):
            row.make(op, place)
    pick.results[0].replace_all_uses_with(row.of(picked, _Rows(dim=dim, rows=rows)))
    for op in (pick, *(op for op, _ in narrowed)):
        op.erase()
    return True


def _narrowed(pick: Any, place: _Rows, operations: list[Any]) -> list[tuple[Any, _Rows]]:
    """What is needed for no other row than the picked one, last first, and where it has the rows."""
    wanted: dict[Any, _Rows | None] = {pick.operands[0]: place}
    readers = {pick.operation}
    found = []
    before = operations[: operations.index(pick)]
    for op in reversed(before):
        if len(op.results) != 1:
            continue
        (value,) = op.results
        at = wanted.get(value)
        if at is None or any(use.owner.operation not in readers for use in value.uses):
            continue
        sources = _rows_before(value, at)
        if sources is None:
            continue
        found.append((op, at))
        readers.add(op.operation)
        for number, operand in enumerate(op.operands):
            source = sources.get(number)
            wanted[operand] = source if wanted.get(operand, source) == source else None
    return found


@dataclass(frozen=True, kw_only=True)
class _Row:
    """Row ``number``, a scalar of the program. What is made is made at the insertion point."""

    number: Any
    _made: dict[tuple[Any, _Rows], Any] = field(default_factory=dict)

    def of(self, value: Any, at: _Rows) -> Any:
        """This row of ``value``: as `make` made it, else cut out of all rows."""
        if (value, at) not in self._made:
            if name_of(value) == "broadcast_in_dim" and _rows_before(value, at) is not None:
                self.make(value.owner, at)  # as cheap as a cut, and maybe no rows are made at all
            else:
                self._made[value, at] = self._cut(value, at)
        return self._made[value, at]

    def make(self, op: Any, at: _Rows) -> None:
        """``op`` for this row."""
        value = op.results[0]
        sources = (_rows_before(value, at) or {}).items()
        operands = {number: self.of(op.operands[number], source) for number, source in sources}
        clone = op.operation.clone()  # behind its operands
        for number, operand in operands.items():
            clone.operands[number] = operand
        shape = at.of_one(shape_of(value))
        if name_of(value) == "slice":
            limits = list(op.attributes["limit_indices"])
            limits[at.dim] = shape[at.dim]
            clone.attributes["limit_indices"] = ir.DenseI64ArrayAttr.get(limits)
        clone.results[0].set_type(_typed(value, shape))
        self._made[value, at] = clone.results[0]

    def _cut(self, value: Any, at: _Rows) -> Any:
        shape, dim = shape_of(value), at.dim
        apart = [*shape[:dim], at.times, at.rows, *shape[dim + 1 :]]
        begins = [i32(0) for _ in apart]
        begins[dim + 1] = self.number
        sizes = [*apart[: dim + 1], 1, *apart[dim + 2 :]]
        whole = hlo.reshape(_typed(value, apart), value)
        row = hlo.dynamic_slice(whole, begins, ir.DenseI64ArrayAttr.get(sizes))
        return hlo.reshape(_typed(value, at.of_one(shape)), row)


def _typed(value: Any, shape: list[int]) -> Any:
    return ir.RankedTensorType.get(shape, value.type.element_type)


def _rows_before(value: Any, at: _Rows) -> dict[int, _Rows] | None:
    """Operand number to where it has the rows of ``value``; operands left out are read whole.

    None where a row is not made of the same row of the operands, or that is not known.
    """
    name, operands = name_of(value), list(value.owner.operands)
    if name in _BY_ELEMENT:
        return {n: at for n, operand in enumerate(operands) if shape_of(operand)}
    if name == "reshape":
        return _before_reshape(value, at)
    if name == "reduce":
        return _before_reduce(value, at)
    if name == "dot":
        is_of_matrices = [len(shape_of(operand)) for operand in operands] == [2, 2]
        return {0: at} if at.dim == 0 and is_of_matrices else None
    dims = dims_before(value, at.dim)
    if dims is None or any(shape_of(operands[n])[d] != at.size for n, d in dims.items()):
        return None
    return {n: replace(at, dim=d) for n, d in dims.items()}


def _before_reshape(value: Any, at: _Rows) -> dict[int, _Rows] | None:
    """Rows may lie in a dim with what was a dim of its own: ``[9, S]`` as ``[3, 3 S]``."""
    (source,) = value.owner.operands
    outside = prod(shape_of(value)[: at.dim]) * at.times
    before = 1
    for dim, size in enumerate(shape_of(source)):
        times, rest = divmod(outside, before)
        if rest == 0 and size == times * at.rows:
            return {0: replace(at, dim=dim, times=times)}
        before *= size
    return None


def _before_reduce(value: Any, at: _Rows) -> dict[int, _Rows] | None:
    tensor, *others = value.owner.operands
    if len(others) != 1:
        return None
    gone = set(value.owner.attributes["dimensions"])
    left = [dim for dim in range(len(shape_of(tensor))) if dim not in gone]
    return {0: replace(at, dim=left[at.dim])}
