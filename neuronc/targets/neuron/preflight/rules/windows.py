"""Convolutions, window reductions, random bits: attributes that neuronx-cc does not take."""

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import Context, Problem, Rule

_DEFAULT_ALGORITHM = 0  # xla.RandomAlgorithm
_ALGORITHMS = {1: "RNG_THREE_FRY", 2: "RNG_PHILOX"}


def _sizes(operator: Operator, field: str) -> list[int]:
    return [getattr(dimension, field) for dimension in operator.message.window.dimensions]


def _above_one(operator: Operator, field: str) -> bool:
    return any(size > 1 for size in _sizes(operator, field))


def dilated_twice(operator: Operator, _: Context) -> Problem | None:
    """Input and kernel of one convolution."""
    if _above_one(operator, "base_dilation") and _above_one(operator, "window_dilation"):
        base, window = _sizes(operator, "base_dilation"), _sizes(operator, "window_dilation")
        return Problem(f"convolution dilates its input by {base} and its kernel by {window}")
    return None


def dilated_and_strided(operator: Operator, _: Context) -> Problem | None:
    """Stride over a dilated input."""
    if _above_one(operator, "base_dilation") and _above_one(operator, "stride"):
        base, stride = _sizes(operator, "base_dilation"), _sizes(operator, "stride")
        return Problem(f"convolution strides by {stride} over an input dilated by {base}")
    return None


def dilated_base(operator: Operator, _: Context) -> Problem | None:
    """A window reduction's input."""
    if _above_one(operator, "base_dilation"):
        return Problem(f"reduce-window dilates its input by {_sizes(operator, 'base_dilation')}")
    return None


def dilated_window(operator: Operator, _: Context) -> Problem | None:
    """A window reduction's window."""
    if _above_one(operator, "window_dilation"):
        return Problem(f"reduce-window dilates its window by {_sizes(operator, 'window_dilation')}")
    return None


def several_tensors(operator: Operator, _: Context) -> Problem | None:
    """One tensor and one initial value."""
    if len(operator.operands) != 2:
        return Problem(f"reduce-window takes 2 operands, found {len(operator.operands)}")
    return None


def named_algorithm(operator: Operator, _: Context) -> Problem | None:
    """Only the device's own generator."""
    number = operator.message.rng_algorithm
    if number == _DEFAULT_ALGORITHM:
        return None
    found = _ALGORITHMS.get(number, str(number))
    return Problem(f"rng-bit-generator asks for {found}, expected RNG_DEFAULT")


RULES = (
    Rule(codes=("EVRF010",), check=dilated_twice, opcodes=("convolution",)),
    Rule(codes=("EVRF011",), check=dilated_and_strided, opcodes=("convolution",)),
    Rule(codes=("EVRF017",), check=dilated_base, opcodes=("reduce-window",)),
    Rule(codes=("EVRF018",), check=dilated_window, opcodes=("reduce-window",)),
    Rule(codes=("EVRF019",), check=several_tensors, opcodes=("reduce-window",)),
    Rule(codes=("EVRF006",), check=named_algorithm, opcodes=("rng-bit-generator",)),
)
