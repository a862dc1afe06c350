"""Operations that compute integers in floating point, or in fewer bits.

The error pages say these are refused unless ``--implicit-integer-downcast`` permits them; the
command line's page says that all are permitted by default. Permitted, they are inexact: a warning.
"""

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import TRN2, Context, Problem, Rule

_WIDE = frozenset({"s32", "u32", "s64", "u64"})
_WIDEST = frozenset({"s64", "u64"})
_NARROW = frozenset({"s8", "u8", "s16", "u16", "pred"})
_COMBINES = ("add", "multiply", "minimum", "maximum")
_F32_IS_EXACT_TO = "numbers above 2^24 lose precision"


def _wide(operator: Operator, dtypes: frozenset[str] = _WIDE) -> str | None:
    """The first integer type among the operands."""
    return next((o.shape.dtype for o in operator.operands if o.shape.dtype in dtypes), None)


def _judge(context: Context, operation: str, refusal: str, doubt: str) -> Problem:
    """A warning where the flags permit ``operation``, else an error."""
    if operation in context.flags.downcasts:
        return Problem(doubt, "warning")
    return Problem(refusal)


def integer_dot(operator: Operator, context: Context) -> Problem | None:
    """32 bits are refused from trn2 on, 64 bits everywhere; trn1 only warns of 32."""
    found = _wide(operator)
    if not found:
        return None
    doubt = f"dot of {found} is computed in f32: {_F32_IS_EXACT_TO}"
    if context.generation < TRN2 and found not in _WIDEST:
        return Problem(doubt, "warning")
    refusal = f"dot of {found}: the matrix engine of {context.target} has floating point only"
    return _judge(context, "dot", refusal, doubt)


def integer_power(operator: Operator, context: Context) -> Problem | None:
    """64 bits only; 32 bits are native."""
    found = _wide(operator, _WIDEST)
    if not found:
        return None
    doubt = f"power of {found} is computed in 32 bits: numbers above 2^31 overflow"
    return _judge(context, "pow", f"power of {found} has no 64-bit form", doubt)


def integer_all_reduce(operator: Operator, context: Context) -> Problem | None:
    """Collectives reduce in f32."""
    return _collective(operator, context, "all_reduce")


def integer_reduce_scatter(operator: Operator, context: Context) -> Problem | None:
    """Collectives reduce in f32."""
    return _collective(operator, context, "reduce_scatter")


def _collective(operator: Operator, context: Context, operation: str) -> Problem | None:
    found = _wide(operator)
    if not found:
        return None
    doubt = f"{operator.opcode} of {found} is computed in f32: {_F32_IS_EXACT_TO}"
    refusal = f"{operator.opcode} of {found}: ranks reduce in floating point only"
    return _judge(context, operation, refusal, doubt)


def integer_scatter(operator: Operator, context: Context) -> Problem | None:
    """Scatter with add, multiply, minimum or maximum."""
    found = operator.operands[0].shape.dtype
    kind = combines_by(operator, context)
    if found not in _WIDE or kind not in _COMBINES:
        return None
    doubt = f"scatter by {kind} of {found} is computed in f32: {_F32_IS_EXACT_TO}"
    refusal = f"scatter by {kind} of {found} would be computed in f32"
    return _judge(context, "scatter", refusal, doubt)


def other_scatter(operator: Operator, context: Context) -> Problem | None:
    """What no flag permits: 8 or 16 bits, booleans, bitwise operations.

    This page speaks of all integers; wide ones are left to EVRF060, the newer page.
    """
    found = operator.operands[0].shape.dtype
    kind = combines_by(operator, context)
    bitwise = found in _WIDE and kind not in _COMBINES
    if kind is not None and (found in _NARROW or bitwise):
        return Problem(f"scatter by {kind} of {found}: expected floating point")
    return None


def combines_by(scatter: Operator, context: Context) -> str | None:
    """The opcode that combines old and new values; None if the new one just takes the place."""
    for body in context.program.called_by(scatter):
        if body.root.opcode != "parameter":
            return body.root.opcode
    return None


def shift_of_other_width(operator: Operator, _: Context) -> Problem | None:
    """The second operand may have any width."""
    found = operator.operands[0].shape.dtype
    if found in ("s32", "u32", "f32"):
        return None
    return Problem(f"shift-right-arithmetic of {found}: expected s32, u32 or f32")


def wide_constant(operator: Operator, context: Context) -> Problem | None:
    """Unsigned 64-bit values that 32 bits cannot hold."""
    if context.flags.native_int64 and context.generation >= TRN2:
        return None
    largest = max(operator.message.literal.u64s, default=0)
    if largest > 2**32 - 1:
        return Problem(f"constant {largest} does not fit 32 bits")
    return None


RULES = (
    Rule(codes=("EVRF035",), check=integer_dot, opcodes=("dot",)),
    Rule(codes=("EVRF060",), check=integer_scatter, opcodes=("scatter",)),
    Rule(codes=("EVRF061",), check=integer_all_reduce, opcodes=("all-reduce",)),
    Rule(codes=("EVRF062",), check=integer_power, opcodes=("power",)),
    Rule(codes=("EVRF063",), check=integer_reduce_scatter, opcodes=("reduce-scatter",)),
    Rule(codes=("EVRF016",), check=other_scatter, opcodes=("scatter",)),
    Rule(codes=("EVRF022",), check=shift_of_other_width, opcodes=("shift-right-arithmetic",)),
    Rule(codes=("ESFH002",), check=wide_constant, opcodes=("constant",)),
)
