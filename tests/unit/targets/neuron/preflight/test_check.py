import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.artifact.manifest import PROGRAMS_DIR, read_manifest
from neuronc.errors import CompilerError, PlanError
from neuronc.lower.program_files import HLO
from neuronc.targets.neuron.chips import NEURON_TARGETS
from neuronc.targets.neuron.error_codes import error_codes
from neuronc.targets.neuron.hlo.legalise import legalise
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.preflight.check import Finding, check_program, require_clean
from neuronc.targets.neuron.preflight.rules.base import GENERATIONS
from neuronc.targets.neuron.preflight.rules.custom_calls import RECOGNISED
from neuronc.targets.neuron.preflight.rules.registry import DECIDED_CODES
from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

STRICT = ["--implicit-integer-downcast=none", "--native-int64=enabled"]


def legal_program(artifact: Path, name: str) -> tuple[bytes, list[str]]:
    entry = next(e for e in read_manifest(artifact).programs if e.name == name)
    hlo = legalise((artifact / PROGRAMS_DIR / name / HLO).read_bytes(), entry.signature)
    return hlo, [t.name for t in entry.signature.inputs if t.kind == "weight"]


@pytest.mark.parametrize("name", ["prefill_8", "decode_64"])
@pytest.mark.parametrize("target", NEURON_TARGETS)
@pytest.mark.parametrize("flags", [[], STRICT])
def test_programs_of_a_real_model_have_no_findings(
    tiny_artifact: Path, name: str, target: str, flags: list[str]
) -> None:
    hlo, weights = legal_program(tiny_artifact, name)
    for lnc in NEURON_TARGETS[target].hbm_bytes_by_lnc:
        found = check_program(
            hlo, program=name, target=target, lnc=lnc, compiler_args=flags, weight_names=weights
        )
        assert found == ()


def test_every_code_that_the_pre_flight_decides_has_a_rule_and_no_other() -> None:
    decided = {c for c, entry in error_codes().items() if entry.decided != "compiler only"}
    assert decided == DECIDED_CODES


def test_every_target_has_a_generation() -> None:
    assert GENERATIONS.keys() == NEURON_TARGETS.keys()


def test_the_recognised_custom_calls_are_those_of_the_page_and_two_more() -> None:
    assert len(RECOGNISED) == 29 + 2


def test_an_operator_in_a_real_model_is_placed_in_its_layer(tiny_artifact: Path) -> None:
    hlo, weights = legal_program(tiny_artifact, "decode_64")
    module = LEGACY.FromString(hlo)
    entry = module.computations[-1]
    for instruction in entry.instructions:
        if instruction.opcode == "logistic":
            instruction.opcode = "cbrt"
    found = check_program(
        module.SerializeToString(), program="d", target="trn2", lnc=2, weight_names=weights
    )
    (finding,) = found
    assert (finding.severity, finding.count) == ("warning", 2)
    assert finding.place == "model.layers.0.mlp.gate_proj"
    assert finding.operator.endswith("(cbrt)")
    assert str(finding).startswith("NCC_EVRF001 d: logistic.")
    assert str(finding).endswith("(and 1 more like it)")


def two_layers() -> tuple[HloBuilder, list[str]]:
    """A sine before the first weight, and one in the reducer of the second layer."""
    hlo = HloBuilder()
    weights = ["model.layers.0.up.weight", "model.layers.1.up.weight"]
    x = hlo.parameter("f32[4]", "hidden")
    first, second = (hlo.parameter("f32[4]", name) for name in weights)
    by = hlo.body()
    total = by.op("add", "f32", by.parameter("f32"), by.parameter("f32"))
    by.op("tan", "f32", total)
    x = hlo.op("multiply", "f32[4]", hlo.op("tan", "f32[4]", x), first)
    x = hlo.op("multiply", "f32[4]", x, second)
    zero = hlo.op("constant", "f32")
    hlo.op("reduce", "f32", x, zero, dimensions=[0], calls=[by])
    return hlo, weights


def test_a_place_is_found_through_users_and_callers() -> None:
    hlo, weights = two_layers()
    places = {f.message: (f.place, f.count) for f in hlo.check("trn2", weight_names=weights)}
    told = "tan is not on the documented list of operators"
    assert places[told] == ("model.layers.0.up", 2)
    assert places["a reduce by tan is not on the documented list"] == ("model.layers.1.up", 1)
    for operator in hlo.message.instructions:
        if operator.opcode == "tan":
            operator.opcode = "sine"
    (_, in_reducer) = hlo.check("trn2", weight_names=weights)
    assert (in_reducer.message, in_reducer.place) == (told, "model.layers.1.up")


def test_without_weights_nothing_is_placed() -> None:
    hlo, _ = two_layers()
    assert {f.place for f in hlo.check()} == {""}


def finding(code: str, severity: str = "error", number: int = 0) -> Finding:
    return Finding(
        code=code,
        severity="error" if severity == "error" else "warning",
        program="decode_64",
        operator=f"dot.{number} (dot)",
        place="model.layers.0",
        message="wrong",
        remedy="change it",
    )


def test_warnings_alone_are_handed_back() -> None:
    warnings = (finding("EVRF035", "warning"), finding("EOOM001", "warning"))
    assert require_clean(warnings) == warnings
    assert require_clean(()) == ()


@pytest.mark.parametrize("code", ["EARG001", "EOOM001", "EVRF009", "EXSP001"])
def test_what_does_not_fit_is_a_plan_error(code: str) -> None:
    with pytest.raises(PlanError, match=f"NCC_{code} decode_64: ") as raised:
        require_clean([finding(code)])
    assert raised.value.hint == f"change it (more: neuronc explain {code})"


def test_anything_else_is_a_compiler_error_that_lists_the_first_five() -> None:
    found = [finding("EVRF009"), *(finding("EVRF035", number=n) for n in range(6))]
    with pytest.raises(CompilerError) as raised:
        require_clean([*found, finding("EVRF004", "warning")])
    lines = raised.value.message.splitlines()
    assert len(lines) == 7
    assert lines[2] == "  NCC_EVRF035 decode_64: dot.0 (dot) in model.layers.0: wrong"
    assert lines[-1] == "  and 2 more"


def test_errors_come_before_warnings() -> None:
    hlo = HloBuilder()
    hlo.op("tan", "f32[4]", hlo.parameter("f32[4]"))
    hlo.op("cholesky", "f32[4,4]", hlo.parameter("f32[4,4]"))
    assert [f.severity for f in hlo.check()] == ["error", "warning"]


def dangling_operand(hlo: HloBuilder) -> None:
    hlo.message.instructions[-1].operand_ids[0] = 99


def dangling_root(hlo: HloBuilder) -> None:
    hlo.message.root_id = 99


def dangling_computation(hlo: HloBuilder) -> None:
    hlo.message.instructions[-1].called_computation_ids.append(99)


def dangling_entry(hlo: HloBuilder) -> None:
    hlo.module.entry_computation_id = 99


@pytest.mark.parametrize(
    "damage", [dangling_operand, dangling_root, dangling_computation, dangling_entry]
)
def test_a_module_that_refers_to_nothing_is_refused(damage: object) -> None:
    hlo = HloBuilder()
    hlo.op("negate", "f32[4]", hlo.parameter("f32[4]"))
    damage(hlo)  # type: ignore[operator]
    with pytest.raises(CompilerError, match="program p is not a whole HLO module: it has no id 99"):
        hlo.check()


@given(st.data())
def test_any_changed_byte_is_judged_or_refused(data: st.DataObject) -> None:
    hlo, weights = two_layers()
    raw = bytearray(hlo.serialize())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CompilerError):
        check_program(bytes(raw), program="p", target="trn2", lnc=2, weight_names=weights)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(CompilerError, match="cannot be decoded"):
        check_program(b"\xff\xff\xff", program="p", target="trn1", lnc=1)
