"""Operators that neuronx-cc lowers, and those it does not.

Sources: the operator list at the end of the SDK's compiler release notes, what AWS's own code emits
beyond it, and the known issues page of JAX NeuronX.
"""

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import TRN2, Context, Problem, Rule
from neuronc.targets.neuron.preflight.rules.loops import has_known_trip_count

_LISTED = """
    abs add all-gather all-reduce atan2 batch-norm-grad batch-norm-inference batch-norm-training
    bitcast-convert broadcast ceil floor clamp compare concatenate constant convert cosine
    custom-call divide dot dynamic-update-slice exponential gather get-tuple-element iota log and
    not maximum minimum multiply negate power pad reduce reshape reverse rng-bit-generator rng rsqrt
    scatter select select-and-scatter shift-right-logical sign sine slice sqrt subtract tanh
    transpose tuple
"""
_USED_BY_AWS = """
    all-to-all call collective-broadcast collective-permute convolution copy dynamic-slice erf
    exponential-minus-one log-plus-one logistic opt-barrier or parameter partition-id
    reduce-scatter reduce-window remainder replica-id round-nearest-afz round-nearest-even
    shift-left shift-right-arithmetic sort while xor
"""
SUPPORTED = frozenset(f"{_LISTED} {_USED_BY_AWS}".split())

REFUSED = {
    "triangular-solve": "has no lowering",
    "cholesky": "has no lowering",
    "fft": "has no lowering",
    "topk": "has no lowering; top-k is the custom call AwsNeuronTopK",
    "conditional": "is control flow that depends on data",
    "reduce-precision": "has no lowering",
    "infeed": "talks to the host",
    "outfeed": "talks to the host",
}
_ORDERS = ("LE", "GE", "LT", "GT")
_REDUCTIONS = ("minimum", "maximum", "add", "multiply", "and", "or")


def refused(operator: Operator, _: Context) -> Problem | None:
    """Operators that the documentation names as unsupported."""
    return Problem(f"{operator.opcode} {REFUSED[operator.opcode]}")


def data_dependent_while(operator: Operator, context: Context) -> Problem | None:
    """A loop needs a trip count that can be read off the program."""
    if has_known_trip_count(operator, context.program):
        return None
    return Problem("while has a trip count that depends on data")


def variadic_reduce(operator: Operator, _: Context) -> Problem | None:
    """One tensor and one initial value."""
    if len(operator.operands) > 2:
        return Problem(f"reduce takes one tensor, found {len(operator.operands) // 2}")
    return None


def reduce_of_unlisted_kind(operator: Operator, context: Context) -> Problem | None:
    """The list allows min, max, add and mul; booleans come as and, or."""
    kinds = [body.root.opcode for body in context.program.called_by(operator)]
    if len(operator.operands) <= 2 and any(kind not in _REDUCTIONS for kind in kinds):
        return Problem(f"a reduce by {kinds[0]} is not on the documented list", "warning")
    return None


def sort_by_other_order(operator: Operator, context: Context) -> Problem | None:
    """The comparator has to be one comparison."""
    for body in context.program.called_by(operator):
        root = body.root
        if root.opcode != "compare" or root.message.comparison_direction not in _ORDERS:
            return Problem(f"sort compares by {root.opcode}, expected one of {', '.join(_ORDERS)}")
    return None


def sort_since_trn2(_: Operator, context: Context) -> Problem | None:
    """Not documented; several public reports."""
    if context.generation >= TRN2:
        return Problem(f"sort does not compile for {context.target} (from reports, not from AWS)")
    return None


def unlisted(operator: Operator, _: Context) -> Problem | None:
    """Neither known to be supported nor known not to be."""
    if operator.opcode in SUPPORTED or operator.opcode in REFUSED:
        return None
    return Problem(f"{operator.opcode} is not on the documented list of operators", "warning")


_CODES = ("EVRF001", "EUOC002")
RULES = (
    Rule(codes=_CODES, check=refused, opcodes=tuple(REFUSED)),
    Rule(codes=_CODES, check=data_dependent_while, opcodes=("while",)),
    Rule(codes=_CODES, check=variadic_reduce, opcodes=("reduce",)),
    Rule(codes=_CODES, check=reduce_of_unlisted_kind, opcodes=("reduce",)),
    Rule(codes=_CODES, check=sort_by_other_order, opcodes=("sort",)),
    Rule(codes=("EVRF029",), check=sort_since_trn2, opcodes=("sort",)),
    Rule(codes=_CODES, check=unlisted),
)
