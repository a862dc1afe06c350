"""Element types that a target does not have.

Sources: AWS Neuron SDK 2.32, ``about-neuron/arch/neuron-features/data-types`` and the error pages;
f8e8m0fnu on trn3: ``nki/api`` (scales of MX formats).
"""

from neuronc.targets.neuron.preflight.program import Operator
from neuronc.targets.neuron.preflight.rules.base import TRN3, Context, Problem, Rule

_FNUZ = frozenset({"f8e4m3fnuz", "f8e4m3b11fnuz", "f8e5m2fnuz"})
_WITHOUT_CODE = frozenset({"f64", "f4e2m1fn", "s1", "s2", "s4", "u1", "u2", "u4"})


def _first(operator: Operator, dtypes: frozenset[str]) -> str | None:
    shape = operator.shape
    if shape.dtype != "tuple":
        return shape.dtype if shape.dtype in dtypes else None
    return next((leaf.dtype for leaf in shape.leaves if leaf.dtype in dtypes), None)


def complex64(operator: Operator, _: Context) -> Problem | None:
    """Emulated in part since release 2.32."""
    if _first(operator, frozenset({"c64"})):
        return Problem("c64 is emulated, and for some operators only", "warning")
    return None


def complex128(operator: Operator, _: Context) -> Problem | None:
    """The 64-bit parts have no form."""
    return (
        Problem("c128 does not exist on Neuron") if _first(operator, frozenset({"c128"})) else None
    )


def fnuz(operator: Operator, _: Context) -> Problem | None:
    """8-bit floats of other accelerators."""
    found = _first(operator, _FNUZ)
    return Problem(f"{found} does not exist on Neuron") if found else None


def without_code(operator: Operator, _: Context) -> Problem | None:
    """Types for which nothing can be generated; the page names f4e2m1fn."""
    found = _first(operator, _WITHOUT_CODE)
    return Problem(f"{found} has no code generation") if found else None


def float8_of_mx_scales(operator: Operator, context: Context) -> Problem | None:
    """f8e8m0fnu is the one 8-bit float that no other rule speaks of."""
    if context.generation < TRN3 and _first(operator, frozenset({"f8e8m0fnu"})):
        return Problem(f"f8e8m0fnu does not exist on {context.target}")
    return None


def float8_e4m3fn(operator: Operator, context: Context) -> Problem | None:
    """Before trn3 only the format that ends at 240 exists."""
    if context.generation >= TRN3 or context.flags.unsafe_fp8:
        return None
    if _first(operator, frozenset({"f8e4m3fn"})):
        return Problem(f"f8e4m3fn does not exist on {context.target}, which has f8e4m3")
    return None


def float8_e4m3(operator: Operator, context: Context) -> Problem | None:
    """After trn3 only the format that ends at 448 exists; no target of today is that new."""
    if context.generation > TRN3 and _first(operator, frozenset({"f8e4m3"})):
        return Problem(f"f8e4m3 does not exist on {context.target}, which has f8e4m3fn")
    return None


RULES = (
    Rule(codes=("EVRF004",), check=complex64),
    Rule(codes=("EVRF004",), check=complex128),
    Rule(codes=("EVRF005",), check=fnuz),
    Rule(codes=("ESPP004",), check=without_code),
    Rule(codes=("ESPP047",), check=float8_of_mx_scales),
    Rule(codes=("EVRF051",), check=float8_e4m3fn),
    Rule(codes=("EVRF052",), check=float8_e4m3),
)
