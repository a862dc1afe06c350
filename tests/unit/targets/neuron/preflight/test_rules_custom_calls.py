import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

UNSAFE = ["--internal-hlo2tensorizer-options=--experimental-unsafe-fp8e4m3fn-as-fp8e4m3"]


def call(target: str, shape: str, *operands: str, config: bytes = b"") -> HloBuilder:
    hlo = HloBuilder()
    given = [hlo.parameter(operand) for operand in operands]
    hlo.op("custom-call", shape, *given, custom_call_target=target, backend_config=config)
    return hlo


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("AwsNeuronSilu", []),
        ("NeuronBoundaryMarker-End", []),
        ("awsneuronsilu", ["EVRF015"]),
        ("__cublas$gemm", ["EVRF015"]),
    ],
)
def test_custom_calls_are_known_by_name(target: str, expected: list[str]) -> None:
    assert call(target, "f32[4]", "f32[4]").codes() == expected


@pytest.mark.parametrize(("dtype", "expected"), [("f32", []), ("s32", ["EVRF013"]), ("u32", [])])
def test_top_k_ranks_floats(dtype: str, expected: list[str]) -> None:
    hlo = call("AwsNeuronTopK", f"({dtype}[4],u32[4])", f"{dtype}[64]", config=b"4")
    assert hlo.codes() == expected


def kernel(path: str) -> HloBuilder:
    config = base64.b64encode(json.dumps({"klir_binary": {"binary": path}}).encode())
    return call("AwsNeuronCustomNativeKernel", "f32[4]", "f32[4]", config=config)


def test_an_nki_kernel_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "hash" / "add.klir"
    assert kernel(str(file)).codes() == ["EVRF059"]
    file.parent.mkdir()
    file.write_bytes(b"")
    assert kernel(str(file)).codes() == []
    moved = "/gone/hash/add.klir"
    assert kernel(moved).codes() == ["EVRF059"]
    assert kernel(moved).codes(compile_dir=tmp_path) == []
    assert kernel(moved).codes(compile_dir=tmp_path / "other") == ["EVRF059"]


def test_a_kernel_without_a_readable_file_name_is_left_to_the_compiler() -> None:
    assert call("AwsNeuronCustomNativeKernel", "f32[4]", config=b"not base64").codes() == []


GOOD: dict[str, Any] = {"dtype": "float8_e5m2", "dim": -1}
RESULT = "(u32[64,32],u8[64,4])"


def quantize(
    *operands: str, result: str = RESULT, config: bytes | None = None, **changes: Any
) -> HloBuilder:
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    text = json.dumps(fields).encode() if config is None else config
    return call("QuantizeMX", result, *(operands or ("bf16[64,128]",)), config=text)


def test_a_good_quantize_mx_passes() -> None:
    assert quantize().codes("trn3") == []
    assert quantize("f16[64,128]", dim=1, block_size=32, scale_method="EMAX").codes("trn3") == []
    assert quantize(dim=0, result="(u32[16,128],u8[2,128])").codes("trn3") == []
    assert quantize(dtype="float8_e4m3fn").codes("trn3") == []


@pytest.mark.parametrize(
    ("hlo", "expected"),
    [
        (quantize(config=b""), ["EVRF036"]),
        (quantize(config=b"[1]"), ["EVRF036"]),
        (quantize("bf16[64,128]", "bf16[64,128]"), ["EVRF037"]),
        (quantize("bf16[2,64,128]", dim=None, result="(u32[2,16,128],u8[2,2,128])"), ["EVRF038"]),
        (quantize(dim=-3), ["EVRF038"]),
        (quantize(dim=2), ["EVRF038"]),
        (quantize(block_size=16), ["EVRF039"]),
        (quantize(scale_method="RCEIL"), ["EVRF040"]),
        (quantize("f32[64,128]"), ["EVRF041"]),
        (quantize(dtype=None), ["EVRF042"]),
        (quantize(dtype="float4_e2m1fn"), ["EVRF042"]),
        (quantize(result="(u8[64,32],u8[64,4])"), ["EVRF042"]),
        (quantize(result="(u32[64,16],u8[64,4])"), ["EVRF042"]),
        (quantize(result="u32[64,32]"), ["EVRF057"]),
        (quantize("bf16[64,126]", result="(u32[64,31],u8[64,4])"), ["EVRF058"]),
    ],
)
def test_a_bad_quantize_mx_is_refused(hlo: HloBuilder, expected: list[str]) -> None:
    assert hlo.codes("trn3") == expected


def test_quantize_mx_is_not_converted_between_8_bit_floats() -> None:
    assert quantize(dtype="float8_e4m3fn").codes("trn3", compiler_args=UNSAFE) == ["EVRF051"]
    assert quantize().codes("trn3", compiler_args=UNSAFE) == []


def scaled_dot(
    lhs: str = "u32[4,64,32]",
    rhs: str = "u32[4,128,32]",
    result: str = "bf16[4,64,128]",
    *,
    scales: int = 2,
    config: bytes | None = None,
    **changes: Any,
) -> HloBuilder:
    numbers = {
        "lhs_batch_dimensions": [0],
        "rhs_batch_dimensions": [0],
        "lhs_contracting_dimensions": [2],
        "rhs_contracting_dimensions": [2],
        **changes,
    }
    text = json.dumps({"scaled_dot_backend_config": numbers}).encode()
    given = (lhs, rhs, *["u8[4,64,1]"] * scales)
    return call("__op$block_scaled_dot", result, *given, config=text if config is None else config)


@pytest.mark.parametrize("config", [None, b"", b"None", b"{}"])
def test_a_good_scaled_dot_passes(config: bytes | None) -> None:
    assert scaled_dot(config=config).codes("trn3") == []


@pytest.mark.parametrize(
    ("hlo", "expected"),
    [
        (scaled_dot(scales=1), ["EVRF043"]),
        (scaled_dot(lhs="u8[4,64,32]"), ["EVRF044"]),
        (scaled_dot(result="f16[4,64,128]"), ["EVRF045"]),
        (scaled_dot(lhs="u32[32]", config=b""), ["EVRF046"]),
        (scaled_dot(rhs="u32[32]", config=b""), ["EVRF047"]),
        (scaled_dot(lhs="u32[2,64,32]"), ["EVRF048"]),
        (scaled_dot(config=b"{"), ["EVRF049"]),
        (scaled_dot(lhs_batch_dimensions=["a"]), ["EVRF049"]),
        (scaled_dot(lhs_batch_dimensions=[float("inf")]), ["EVRF049"]),
        (scaled_dot(rhs="u32[4,128,64]"), ["EVRF050"]),
        (scaled_dot(rhs="u32[4,32,128]", config=b""), ["EVRF050"]),
        (scaled_dot(lhs_contracting_dimensions=[0], rhs="u32[4,128,4]"), ["EVRF053"]),
        (scaled_dot(rhs_batch_dimensions=[3]), ["EVRF054"]),
        (scaled_dot(lhs_batch_dimensions=[-1]), ["EVRF054"]),
        (scaled_dot(lhs_contracting_dimensions=[3]), ["EVRF055"]),
        (scaled_dot(rhs_contracting_dimensions=[-1]), ["EVRF055"]),
    ],
)
def test_a_bad_scaled_dot_is_refused(hlo: HloBuilder, expected: list[str]) -> None:
    assert hlo.codes("trn3") == expected


def test_only_as_many_batch_dimensions_are_compared() -> None:
    assert scaled_dot(lhs="u32[2,64,32]", lhs_batch_dimensions=[]).codes("trn3") == []
