"""The custom call ``__op$block_scaled_dot``: two packed MXFP8 matrices and the scales of both.

Source: the pages of EVRF043 to EVRF050 and EVRF053 to EVRF055.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, Rule
from neuronc.targets.neuron.preflight.rules.custom_calls import SCALED_DOT
from neuronc.targets.neuron.preflight.rules.quantize_mx import read_json_object


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """One matrix: its dims, and which of them are batches and contracted."""

    name: str
    dims: tuple[int, ...]
    batch: tuple[int, ...]
    contracting: int

    def has(self, dim: int) -> bool:
        return 0 <= dim < len(self.dims)


_Check = Callable[[_Side, _Side], str | None]


def _config(operator: Operator) -> dict[str, Any] | None:
    """The optional configuration; None if it cannot be read."""
    text = operator.message.backend_config
    if text in (b"", b"None"):
        return {}
    outer = read_json_object(text)
    if outer is None:
        return None
    inner = outer.get("scaled_dot_backend_config", {})
    return inner if isinstance(inner, dict) else None


def _side(operator: Operator, number: int, config: dict[str, Any]) -> _Side:
    name, dims = ("lhs", "rhs")[number], operator.operands[number].shape.dims
    batch = tuple(int(dim) for dim in config.get(f"{name}_batch_dimensions", ()))
    contracting = [int(dim) for dim in config.get(f"{name}_contracting_dimensions", ())]
    last = len(dims) - 1
    return _Side(name=name, dims=dims, batch=batch, contracting=[*contracting, last][0])


def _sides(operator: Operator) -> tuple[_Side, _Side] | None:
    """Both matrices; None if the configuration cannot be read."""
    config = _config(operator)
    if config is None:
        return None
    try:
        return _side(operator, 0, config), _side(operator, 1, config)
    except (TypeError, ValueError, OverflowError):
        return None


def operand_count(operator: Operator, _: Context) -> Problem | None:
    """The other checks wait until this one passes."""
    found = len(operator.operands)
    if operator.message.custom_call_target != SCALED_DOT or found == 4:
        return None
    return Problem(f"scaled dot takes 4 operands (both sides, both scales), found {found}")


def _lhs_dtype(operator: Operator) -> str | None:
    found = operator.operands[0].shape.dtype
    return None if found == "u32" else f"scaled dot of {found}: expected packed u32"


def _result_dtype(operator: Operator) -> str | None:
    found = operator.shape.dtype
    return None if found in ("f32", "bf16") else f"scaled dot to {found}: expected f32 or bf16"


def _lhs_rank(operator: Operator) -> str | None:
    return _rank(operator, 0)


def _rhs_rank(operator: Operator) -> str | None:
    return _rank(operator, 1)


def _rank(operator: Operator, number: int) -> str | None:
    shape = operator.operands[number].shape
    if len(shape.dims) >= 2:
        return None
    return f"scaled dot's {('left', 'right')[number]} side is {shape}: expected 2 dims or more"


def _readable(operator: Operator) -> str | None:
    if _sides(operator) is not None:
        return None
    return "scaled dot's backend_config is no JSON with whole numbers as dimensions"


def _batch_sizes(left: _Side, right: _Side) -> str | None:
    if len(left.batch) != len(right.batch) or not _batches_exist(left, right):
        return None
    one, other = (prod(side.dims[dim] for dim in side.batch) for side in (left, right))
    return None if one == other else f"scaled dot of {one} batches with {other}"


def _contracting_sizes(left: _Side, right: _Side) -> str | None:
    if not all(side.has(side.contracting) for side in (left, right)):
        return None
    one, other = (side.dims[side.contracting] for side in (left, right))
    return None if one == other else f"scaled dot contracts a dimension of {one} with {other}"


def _contracted_batch(left: _Side, right: _Side) -> str | None:
    for side in (left, right):
        if side.contracting in side.batch:
            return f"scaled dot contracts {side.name} dimension {side.contracting}, also a batch"
    return None


def _batches_exist(left: _Side, right: _Side) -> bool:
    return all(side.has(dim) for side in (left, right) for dim in side.batch)


def _batch_range(left: _Side, right: _Side) -> str | None:
    if _batches_exist(left, right):
        return None
    return f"scaled dot has batch dimensions {left.batch} and {right.batch}, beyond its operands"


def _contracting_range(left: _Side, right: _Side) -> str | None:
    for side in (left, right):
        if not side.has(side.contracting):
            return f"scaled dot contracts {side.name} dimension {side.contracting}, not there"
    return None


def _rule(code: str, check: Callable[[Operator], str | None]) -> Rule:
    def checked(operator: Operator, _: Context) -> Problem | None:
        if operator.message.custom_call_target != SCALED_DOT or len(operator.operands) != 4:
            return None
        text = check(operator)
        return None if text is None else Problem(text)

    return Rule(codes=(code,), check=checked, opcodes=("custom-call",))


def _rule_of_sides(code: str, check: _Check) -> Rule:
    def of_operator(operator: Operator) -> str | None:
        sides = _sides(operator)
        return None if sides is None else check(*sides)

    return _rule(code, of_operator)


RULES = (
    Rule(codes=("EVRF043",), check=operand_count, opcodes=("custom-call",)),
    _rule("EVRF044", _lhs_dtype),
    _rule("EVRF045", _result_dtype),
    _rule("EVRF046", _lhs_rank),
    _rule("EVRF047", _rhs_rank),
    _rule_of_sides("EVRF048", _batch_sizes),
    _rule("EVRF049", _readable),
    _rule_of_sides("EVRF050", _contracting_sizes),
    _rule_of_sides("EVRF053", _contracted_batch),
    _rule_of_sides("EVRF054", _batch_range),
    _rule_of_sides("EVRF055", _contracting_range),
)
