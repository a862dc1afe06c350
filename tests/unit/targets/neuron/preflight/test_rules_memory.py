import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

GIB = 2**30


def model(rows: int) -> HloBuilder:
    """A weight of ``rows`` GiB, a cache of 1 GiB that is updated in place, 1 GiB of logits."""
    hlo = HloBuilder()
    hlo.parameter(f"bf16[{rows},{GIB // 2}]", "w")
    cache = hlo.parameter(f"f32[{GIB // 4}]", "keys.0.must_alias_input")
    logits = hlo.op("iota", f"s8[{GIB}]", dimensions=[0])
    updated = hlo.op("copy", f"f32[{GIB // 4}]", cache)
    hlo.op("tuple", f"(s8[{GIB}],f32[{GIB // 4}])", logits, updated)
    aliases = hlo.module.input_output_alias.entries
    aliases.add(output_shape_index=[1], parameter_number=1)
    return hlo


@pytest.mark.parametrize(
    ("target", "lnc", "limit"),
    [("inf2", 1, 16), ("trn1", 1, 16), ("trn2", 1, 12), ("trn2", 2, 24), ("trn3", 2, 36)],
)
def test_inputs_and_outputs_have_to_fit_a_core(target: str, lnc: int, limit: int) -> None:
    assert model(limit - 3).check(target, lnc) == ()
    (tight,) = model(limit - 2).check(target, lnc)
    assert (tight.code, tight.severity) == ("EOOM001", "warning")
    (over,) = model(limit - 1).check(target, lnc)
    assert (over.code, over.severity) == ("EVRF009", "error")


def test_a_model_that_is_too_large_says_by_how_much_and_of_what() -> None:
    (finding,) = model(26).check("trn2", 2, weight_names=["w"])
    assert finding.message == (
        "inputs and outputs need 28 GiB of device memory (weights 26 GiB, KV caches 1 GiB, other"
        " 1 GiB); a core of trn2 at --lnc 2 has 24 GiB, 4 GiB too much"
    )
    assert "--tp" in finding.remedy


def test_a_single_result_that_is_written_in_place_takes_no_memory() -> None:
    hlo = HloBuilder()
    hlo.op("copy", f"s8[{9 * GIB}]", hlo.parameter(f"s8[{9 * GIB}]"))
    assert [f.code for f in hlo.check("trn1")] == ["EVRF009"]
    hlo.module.input_output_alias.entries.add(parameter_number=0)
    assert hlo.check("trn1") == ()


@pytest.mark.parametrize(
    ("target", "lnc", "flags", "refused"),
    [
        ("trn1", 1, [], False),
        ("trn2", 1, [], False),
        ("trn2", 2, ["--lnc", "2"], False),
        ("trn3", 2, ["--logical-nc-config=2"], False),
        ("trn1", 2, [], True),
        ("trn2", 3, [], True),
        ("inf2", 1, ["--lnc=2"], True),
        ("trn1n", 1, ["--logical-nc-config", "2"], True),
    ],
)
def test_logical_cores_are_of_a_size_the_target_has(
    target: str, lnc: int, flags: list[str], refused: bool
) -> None:
    hlo = HloBuilder()
    hlo.parameter("f32[4]")
    found = hlo.check(target, lnc, compiler_args=flags)
    assert [f.code for f in found] == (["EARG001"] if refused else [])
