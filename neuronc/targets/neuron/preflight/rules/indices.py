"""Gathers and scatters whose positions count past the end of their tensor."""

from collections.abc import Iterator

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, Rule

_KEEPS_VALUES = ("reshape", "broadcast", "convert", "copy", "transpose")


def gather_past_end(operator: Operator, _: Context) -> Problem | None:
    """A position table that is shorter than what counts over it."""
    numbers = operator.message.gather_dimension_numbers
    return _past_end(operator, list(numbers.start_index_map), numbers.index_vector_dim)


def scatter_past_end(operator: Operator, _: Context) -> Problem | None:
    """As many positions as the indices count."""
    numbers = operator.message.scatter_dimension_numbers
    mapped = list(numbers.scatter_dims_to_operand_dims)
    return _past_end(operator, mapped, numbers.index_vector_dim)


def _past_end(operator: Operator, mapped: list[int], vector_dim: int) -> Problem | None:
    # scatter: tensors, indices, as many updates; gather: tensor, indices
    dims = operator.operands[0].shape.dims
    indices = operator.operands[len(operator.operands) // 2]
    for component, source in _components(indices, len(mapped), vector_dim):
        count, size = _iota_size(source), dims[mapped[component]]
        if count is not None and count > size:
            told = f"{operator.opcode} counts {count} positions over a dimension of {size}"
            return Problem(f"{told} ({operator.operands[0].shape})")
    return None


def _components(indices: Operator, count: int, vector_dim: int) -> Iterator[tuple[int, Operator]]:
    """Each coordinate's number and the operator it comes from, where that can be told apart."""
    if count == 1:
        yield 0, indices
        return
    while indices.opcode in ("copy", "convert"):
        indices = indices.operands[0]
    if indices.opcode != "concatenate" or list(indices.message.dimensions) != [vector_dim]:
        return
    component = 0
    for part in indices.operands:
        width = part.shape.dims[vector_dim]
        if width == 1:
            yield component, part
        component += width


def _iota_size(source: Operator) -> int | None:
    """Numbers that an iota counts, seen through what only moves them; None if it is none."""
    while source.opcode in _KEEPS_VALUES:
        source = source.operands[0]
    if source.opcode != "iota":
        return None
    dimension: int = source.message.dimensions[0]
    return source.shape.dims[dimension]


RULES = (
    Rule(codes=("EVRF056",), check=gather_past_end, opcodes=("gather",)),
    Rule(codes=("EVRF031",), check=scatter_past_end, opcodes=("scatter",)),
)
