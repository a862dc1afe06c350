import pytest

from neuronc.targets.neuron.preflight.flags import read_flags
from neuronc.targets.neuron.preflight.program import read_program
from neuronc.targets.neuron.preflight.rules.base import Context
from neuronc.targets.neuron.preflight.rules.dtypes import float8_e4m3
from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

UNSAFE = "--internal-hlo2tensorizer-options='--experimental-unsafe-fp8e4m3fn-as-fp8e4m3'"


@pytest.mark.parametrize(
    ("dtype", "target", "expected"),
    [
        ("f32", "trn1", []),
        ("bf16", "inf2", []),
        ("u8", "trn2", []),
        ("f8e4m3", "trn1", []),
        ("f8e5m2", "inf2", []),
        ("f8e3m4", "trn2", []),
        ("f64", "trn2", ["ESPP004"]),
        ("f4e2m1fn", "trn3", ["ESPP004"]),
        ("s4", "trn1", ["ESPP004"]),
        ("c64", "trn2", ["evrf004"]),
        ("c128", "trn2", ["EVRF004"]),
        ("f8e4m3fnuz", "trn3", ["EVRF005"]),
        ("f8e4m3b11fnuz", "trn1", ["EVRF005"]),
        ("f8e5m2fnuz", "trn2", ["EVRF005"]),
        ("f8e4m3fn", "trn1", ["EVRF051"]),
        ("f8e4m3fn", "inf2", ["EVRF051"]),
        ("f8e4m3fn", "trn2", ["EVRF051"]),
        ("f8e4m3fn", "trn3", []),
        ("f8e8m0fnu", "trn2", ["ESPP047"]),
        ("f8e8m0fnu", "trn3", []),
    ],
)
def test_each_target_has_its_element_types(dtype: str, target: str, expected: list[str]) -> None:
    hlo = HloBuilder()
    hlo.op("negate", f"{dtype}[4]", hlo.parameter(f"{dtype}[4]"))
    assert hlo.codes(target) == expected


def test_an_element_type_inside_a_tuple_counts() -> None:
    hlo = HloBuilder()
    hlo.parameter("(f32[2],f64[2])")
    assert hlo.codes() == ["ESPP004"]


def test_the_unsafe_flag_lets_f8e4m3fn_pass_before_trn3() -> None:
    hlo = HloBuilder()
    hlo.parameter("f8e4m3fn[4]")
    assert hlo.codes(compiler_args=[UNSAFE]) == []
    assert hlo.codes(compiler_args=["--internal-hlo2tensorizer-options=--verify-hlo=true"]) != []


@pytest.mark.parametrize(("generation", "refused"), [(4, False), (5, True)])
def test_f8e4m3_ends_with_trn3(generation: int, refused: bool) -> None:
    hlo = HloBuilder()
    hlo.parameter("f8e4m3[4]")
    program = read_program(hlo.serialize(), "p")
    flags = read_flags([])
    context = Context(program=program, target="trn9", generation=generation, lnc=1, flags=flags)
    assert (float8_e4m3(program.entry.root, context) is not None) is refused


@pytest.mark.parametrize("shape", ["f32[2,<=4]", "f32[-1]"])
def test_a_dimension_that_is_not_fixed_is_refused(shape: str) -> None:
    hlo = HloBuilder()
    hlo.op("negate", shape, hlo.parameter(shape))
    (finding,) = hlo.check()
    assert (finding.code, finding.count) == ("EMOD025", 2)
