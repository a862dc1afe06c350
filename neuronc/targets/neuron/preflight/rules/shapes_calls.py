"""Shapes of tuples, loops and collectives."""

from neuronc.targets.neuron.preflight.program import Operator, Program, Shape
from neuronc.targets.neuron.preflight.rules.shapes_common import Check, expect, one_size


def _tuple(operator: Operator, _: Program) -> str | None:
    parts = tuple(operand.shape for operand in operator.operands)
    if operator.shape.dtype == "tuple" and operator.shape.parts == parts:
        return None
    return f"tuple of {len(parts)} values says {operator.shape}"


def _get_tuple_element(operator: Operator, _: Program) -> str | None:
    whole, index = operator.operands[0].shape, operator.message.tuple_index
    if not 0 <= index < len(whole.parts):
        return f"get-tuple-element {index} of {whole}"
    part = whole.parts[index]
    return None if operator.shape == part else f"element {index} is {part}, not {operator.shape}"


def _while(operator: Operator, program: Program) -> str | None:
    state = operator.operands[0].shape
    results = [body.root.shape for body in program.called_by(operator)]
    truth = Shape(dtype="pred")
    if operator.shape != state or sorted(map(str, results)) != sorted(map(str, (state, truth))):
        return f"while over {state} gives {operator.shape}, its computations {results}"
    return None


def _same(operator: Operator, _: Program) -> str | None:
    """All-reduce and collective-permute: one result per operand, of its shape."""
    if len(operator.operands) == 1 and operator.shape.dtype != "tuple":
        return expect(operator, operator.operands[0].shape)
    given = [operand.shape.dims for operand in operator.operands]
    if given != [part.dims for part in operator.shape.parts]:
        return f"{operator.opcode} of {len(given)} tensors says {operator.shape}"
    return None


def _all_gather(operator: Operator, _: Program) -> str | None:
    return _scaled(operator, gathers=True)


def _reduce_scatter(operator: Operator, _: Program) -> str | None:
    return _scaled(operator, gathers=False)


def _scaled(operator: Operator, *, gathers: bool) -> str | None:
    """One dimension grows or shrinks by the number of ranks in a group, where one is given."""
    groups = [len(group.replica_ids) for group in operator.message.replica_groups]
    if not groups or operator.shape.dtype == "tuple" or len(operator.operands) != 1:
        return None
    if len(set(groups)) != 1 or len(operator.message.dimensions) != 1:
        return f"{operator.opcode} over groups of {groups}"
    operand, dim = operator.operands[0].shape, operator.message.dimensions[0]
    size, ranks = one_size(operand.dims, dim), groups[0]
    if not gathers and size % ranks:
        return f"reduce-scatter of {size} over {ranks} ranks"
    scaled = size * ranks if gathers else size // ranks
    dims = (*operand.dims[:dim], scaled, *operand.dims[dim + 1 :])
    return expect(operator, Shape(dtype=operand.dtype, dims=dims))


_ONE, _ANY = range(1, 2), range(2**31)

CHECKS: dict[str, tuple[range, Check]] = {
    "tuple": (_ANY, _tuple),
    "get-tuple-element": (_ONE, _get_tuple_element),
    "while": (_ONE, _while),
    "all-reduce": (range(1, 2**31), _same),
    "collective-permute": (_ONE, _same),
    "all-gather": (range(1, 2**31), _all_gather),
    "reduce-scatter": (range(1, 2**31), _reduce_scatter),
}
