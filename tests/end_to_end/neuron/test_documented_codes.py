"""The compiler double refuses what error pages document, and so does the pre-flight, apart from it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.documented_codes import refuse_documented
from tests.neuron_doubles import CompilerDouble
from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

_STRICT = "--implicit-integer-downcast=none"


def of(opcode: str, shape: str, *operands: str, **fields: Any) -> HloBuilder:
    """A module of one operator."""
    hlo = HloBuilder()
    given = [hlo.parameter(operand) for operand in operands]
    hlo.op(opcode, shape, *given, **fields)
    return hlo


def windowed(opcode: str, **dim: int) -> HloBuilder:
    """One with a window of two, whose dims are otherwise as ``dim`` says."""
    hlo = HloBuilder()
    given = [hlo.parameter("f32[1,8,1]"), hlo.parameter("f32[2,1,1]")]
    if opcode == "reduce-window":
        given = [hlo.parameter("f32[8]"), hlo.parameter("f32[]")]
    calls = [hlo.reducer("add", "f32")] if opcode == "reduce-window" else ()
    made = hlo.op(opcode, "f32[7]", *given, calls=calls)
    plain = {"size": 2, "stride": 1, "window_dilation": 1, "base_dilation": 1}
    made.window.dimensions.add(**{**plain, **dim})
    return hlo


def summed(opcode: str, shape: str) -> HloBuilder:
    hlo = HloBuilder()
    body = hlo.reducer("add", shape.partition("[")[0])
    hlo.op(opcode, shape, hlo.parameter(shape), calls=[body])
    return hlo


def variadic() -> HloBuilder:
    hlo = HloBuilder()
    given = [hlo.parameter(s) for s in ("f32[4]", "s32[4]", "f32[]", "s32[]")]
    hlo.op("reduce", "(f32[],s32[])", *given, calls=[hlo.reducer("add", "f32")], dimensions=[0])
    return hlo


CASES: dict[str, tuple[HloBuilder, str, str, str]] = {
    "operator": (of("fft", "f32[4]", "f32[4]"), "inf2", "", "EVRF001"),
    "triangular": (of("triangular-solve", "f32[4]", "f32[4]"), "trn1", "", "EVRF001"),
    "variadic": (variadic(), "inf2", "", "EVRF001"),
    "sort on trn2": (of("sort", "f32[4]", "f32[4]"), "trn2", "", "EVRF029"),
    "complex": (of("abs", "c128[4]", "c128[4]"), "inf2", "", "EVRF004"),
    "fnuz": (of("abs", "f8e4m3fnuz[4]", "f8e4m3fnuz[4]"), "trn3", "", "EVRF005"),
    "e4m3fn": (of("abs", "f8e4m3fn[4]", "f8e4m3fn[4]"), "trn2", "", "EVRF051"),
    "f4": (of("abs", "f4e2m1fn[4]", "f4e2m1fn[4]"), "trn2", "", "ESPP004"),
    "dynamic": (of("abs", "f32[<=4]", "f32[<=4]"), "inf2", "", "EMOD025"),
    "rng": (
        of("rng-bit-generator", "(u32[2],u32[4])", "u32[2]", rng_algorithm=1),
        "inf2", "", "EVRF006",
    ),
    "top-k": (
        of(
            "custom-call", "(s32[4],u32[4])", "s32[64]",
            custom_call_target="AwsNeuronTopK", backend_config=b"4",
        ),
        "inf2", "", "EVRF013",
    ),
    "call": (of("custom-call", "f32[4]", "f32[4]", custom_call_target="x"), "inf2", "", "EVRF015"),
    "dilated base": (windowed("reduce-window", base_dilation=2), "inf2", "", "EVRF017"),
    "dilated window": (windowed("reduce-window", window_dilation=2), "inf2", "", "EVRF018"),
    "shift": (
        of("shift-right-arithmetic", "u8[4]", "u8[4]", "u8[4]"), "inf2", "", "EVRF022",
    ),
    "sum over ranks": (summed("all-reduce", "s32[4]"), "trn2", _STRICT, "EVRF061"),
    "size": (of("abs", "f32[5,1073741824]", "f32[5,1073741824]"), "inf2", "", "EVRF009"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_double_and_pre_flight_refuse_with_the_documented_code(case: str) -> None:
    hlo, target, args, code = CASES[case]
    with pytest.raises(ValueError, match=f"^NCC_{code} "):
        refuse_documented(hlo.serialize(), target=target, lnc=1, args=args)
    assert code in hlo.codes(target, compiler_args=args.split())


@pytest.mark.parametrize(
    ("hlo", "target", "args"),
    [
        (of("sort", "f32[4]", "f32[4]"), "inf2", ""),
        (of("abs", "f8e4m3fn[4]", "f8e4m3fn[4]"), "trn3", ""),
        (summed("all-reduce", "s32[4]"), "trn2", "--implicit-integer-downcast=all"),
        (summed("all-reduce", "f32[4]"), "trn2", _STRICT),
        (windowed("reduce-window", stride=2), "inf2", ""),
        (of("abs", "f32[3,1073741824]", "f32[3,1073741824]"), "inf2", ""),
    ],
)
def test_double_takes_what_is_allowed(hlo: HloBuilder, target: str, args: str) -> None:
    refuse_documented(hlo.serialize(), target=target, lnc=1, args=args)


@pytest.mark.parametrize("target", ["inf2", "trn2"])
def test_refusal_has_the_documented_form_and_exit_code(
    target: str, tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    from neuronc.targets.neuron.hlo.schema import LEGACY

    module = LEGACY.FromString((tiny_bundle / "programs/decode_32/neuron.hlo.pb").read_bytes())
    logistic = next(i for i in module.computations[-1].instructions if i.opcode == "logistic")
    logistic.opcode = "reduce-precision"
    (tmp_path / "x.hlo.pb").write_bytes(module.SerializeToString())
    done = ncc(compiler, tmp_path, "compile", "x.hlo.pb", "--framework=XLA", f"--target={target}")
    assert done.returncode == 70
    assert re.search(r"\[ERROR\] \[NCC_EVRF001\] Unsupported operator: ", done.stdout)


def test_operators_are_listed_one_a_line(compiler: CompilerDouble, tmp_path: Path) -> None:
    done = ncc(compiler, tmp_path, "list-operators", "--framework", "XLA")
    assert done.returncode == 0
    assert {"Dot", "Allreduce", "Tuple"} <= set(done.stdout.splitlines())
    assert ncc(compiler, tmp_path, "list-operators").returncode == 70


def ncc(compiler: CompilerDouble, cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(compiler.folder / "neuronx-cc"), *argv],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
