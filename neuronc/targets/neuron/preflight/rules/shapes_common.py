"""What the shape checks share. Each check returns what is wrong, or None."""

from collections.abc import Callable, Sequence

from neuronc.targets.neuron.preflight.program import Operator, Program, Shape

Check = Callable[[Operator, Program], str | None]
ANY_NUMBER = range(1, 2**31)

_FLOATS = ("f", "bf")


def one_size(dims: Sequence[int], dim: int) -> int:
    """Size of dimension ``dim``; IndexError also below 0, where Python would count from the end."""
    if dim < 0:
        raise IndexError(dim)
    return dims[dim]


def expect(operator: Operator, shape: Shape) -> str | None:
    """The result has these dims, and an element type of that kind."""
    return expect_dims(operator, shape.dims) or expect_kind(operator, shape)


def expect_dims(operator: Operator, dims: Sequence[int]) -> str | None:
    """The result has these dims."""
    if operator.shape.dtype != "tuple" and operator.shape.dims == tuple(dims):
        return None
    return f"{operator.opcode} gives [{','.join(map(str, dims))}], it says {operator.shape}"


def expect_kind(operator: Operator, shape: Shape) -> str | None:
    """The result's elements are as ``shape``'s."""
    if kind(operator.shape) == kind(shape):
        return None
    return f"{operator.opcode} gives {shape.dtype}, it says {operator.shape.dtype}"


def kind(shape: Shape) -> str:
    """All floats are of one kind, everything else is of its own."""
    return "float" if shape.dtype.startswith(_FLOATS) else shape.dtype


def without(dims: Sequence[int], dropped: Sequence[int]) -> list[int]:
    """``dims`` less the dimensions ``dropped``."""
    for dim in dropped:
        one_size(dims, dim)
    return [size for number, size in enumerate(dims) if number not in dropped]
