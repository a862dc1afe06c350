"""argmax and argmin: a reduction of (values, positions), which neuronx-cc does not take.

They become the largest value, the places that hold it, and the first of those places.
"""

import math
from collections.abc import Iterator
from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.element_types import (
    FLOATS,
    PRED,
    S32,
    highest,
    is_integer,
    lowest,
    scalar_of,
)
from neuronc.targets.neuron.hlo.rewrites.builder import Builder, describe
from neuronc.targets.neuron.hlo.rewrites.positions import is_iota
from neuronc.targets.neuron.hlo.rewrites.scalar_code import FINITE, NAN, NotComparing, run_scalars


def rewrite_argmax(builder: Builder, instruction: Any) -> Any:
    """The rule for variadic ``reduce``.

    Equal values give the lowest position. A NaN counts as beyond every value, and the first one
    wins: what JAX and torch promise. (The reduction that torch-mlir writes gives a NaN no fixed
    place: its result depends on the order in which it is run.)

    Raises:
        CompilerError: the reduction is neither argmax nor argmin.
    """
    if instruction.opcode != "reduce" or len(instruction.operand_ids) == 2:
        return None
    opcode = _recognise(builder, instruction)
    if opcode is None:
        message = f"HLO has a reduction of several tensors at once: {describe(instruction)}"
        hint = "neuronx-cc takes argmax and argmin of one axis only; report the model's family"
        raise CompilerError(message, hint=hint)
    values, positions, _, _ = builder.operands(instruction)
    return _emit(builder, opcode, values, positions, instruction.dimensions[0])


def _emit(builder: Builder, opcode: str, values: Any, positions: Any, dim: int) -> Any:
    dtype, index = values.shape.element_type, positions.shape.element_type
    if dtype == PRED:
        values = builder.convert(values, S32)
    dims = list(values.shape.dimensions)
    kept = [number for number in range(len(dims)) if number != dim]
    init = _neutral(opcode, values.shape.element_type)
    best = builder.reduce(opcode, values, dim, init)
    # Some place holds the best value, so the last position does for all that do not.
    places = builder.full(index, dims, dims[dim] - 1)
    hit = builder.compare(values, "EQ", builder.spread(best, dims, kept))
    found = builder.elementwise("select", hit, positions, places)
    if dtype in FLOATS:
        nan = builder.compare(values, "NE", values)
        found = builder.elementwise("select", nan, positions, found)
    first = builder.reduce("minimum", found, dim, dims[dim] - 1)
    if dtype == PRED:
        best = builder.compare(best, "NE", builder.full(S32, best.shape.dimensions, 0))
    return builder.tuple_of(best, first)


def _neutral(opcode: str, dtype: int) -> float:
    return lowest(dtype) if opcode == "maximum" else highest(dtype)


def _recognise(builder: Builder, instruction: Any) -> str | None:
    """``maximum`` or ``minimum``; None if it is another reduction."""
    if len(instruction.operand_ids) != 4 or len(instruction.dimensions) != 1:
        return None
    values, positions, first_value, first_position = builder.operands(instruction)
    dim = instruction.dimensions[0]
    dtype = values.shape.element_type
    if (
        not (dtype == PRED or dtype in FLOATS or is_integer(dtype))
        or not values.shape.dimensions[dim]
    ):
        return None
    if not is_iota(builder, positions, dim) or _constant(first_position) != 0:
        return None
    body = builder.computation(instruction.called_computation_ids[0])
    for opcode in ("maximum", "minimum"):
        wanted = _neutral(opcode, dtype) if dtype != PRED else opcode == "minimum"
        if _constant(first_value) == wanted and _does(body, dtype, opcode):
            return opcode
    return None


def _constant(instruction: Any) -> float | None:
    return scalar_of(instruction.literal) if instruction.opcode == "constant" else None


def _does(body: Any, dtype: int, opcode: str) -> bool:
    """Whether ``body`` is the step of argmax (argmin) for everything it can be given."""
    try:
        return all(_step_is(body, opcode, *pair) for pair in _pairs(dtype)) and (
            dtype not in FLOATS or _keeps_nan(body)
        )
    except NotComparing:
        return False


def _pairs(dtype: int) -> Iterator[tuple[Any, int, Any, int]]:
    values: tuple[Any, ...] = (0, 1, 2)
    if dtype == PRED:
        values = (False, True)
    elif dtype in FLOATS:
        values = FINITE
    for a in values:
        for b in values:
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 2), (2, 1)):
                yield a, i, b, j


def _step_is(body: Any, opcode: str, a: Any, i: int, b: Any, j: int) -> bool:
    best = max(a, b) if opcode == "maximum" else min(a, b)
    place = min(i, j) if a == b else (i if a == best else j)
    return bool(run_scalars(body, dict(enumerate((a, i, b, j)))) == (best, place))


def _keeps_nan(body: Any) -> bool:
    """Whether a NaN that comes later is taken; and if one stays when it is first, it wins."""
    later = [_nan_at(body, a, NAN) for a in FINITE]
    earlier = [_nan_at(body, NAN, a) for a in (*FINITE, NAN)]
    return all(place == 1 for place in later) and (0 not in earlier or set(earlier) == {0})


def _nan_at(body: Any, a: float, b: float) -> int | None:
    """The position that goes with a NaN result; None if the result is a number."""
    value, place = run_scalars(body, dict(enumerate((a, 0, b, 1))))
    return int(place) if math.isnan(value) else None
