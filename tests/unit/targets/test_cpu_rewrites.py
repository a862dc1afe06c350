import re
from dataclasses import replace

import numpy as np
import pytest

from neuronc.targets import cpu_rewrites
from neuronc.targets.cpu_few_rows import MAX_ROWS
from neuronc.targets.cpu_rewrites import WIDE_ROWS, rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.family_programs import inputs, lowered
from tests.unit.targets.linear_programs import (
    OUT,
    compiled,
    linear_program,
    random_inputs,
    worst_error,
)


def test_program_of_integers_is_left_as_it_is() -> None:
    text, signature = linear_program(1, 64, "i32")
    text = text.replace("0.0", "0")
    assert rewrite_for_cpu(text, signature) == text


def test_many_rows_keep_one_dot() -> None:
    text, signature = linear_program(MAX_ROWS["bf16"] + 1, 64, "bf16")
    rewritten = rewrite_for_cpu(text, signature)
    assert rewritten.count("dot_general") == 1
    assert "transpose" not in rewritten


@pytest.mark.parametrize(
    ("rows", "bf16"),
    [
        (MAX_ROWS["bf16"] + 1, True),
        (MAX_ROWS["bf16"] + 1, False),
        (WIDE_ROWS - 1, False),
        (WIDE_ROWS, True),
    ],
)
def test_many_rows_of_bf16_are_summed_in_f32_and_rounded_after(rows: int, *, bf16: bool) -> None:
    text, signature = linear_program(rows, 64, "bf16")
    rewritten = rewrite_for_cpu(text, signature, bf16=bf16)
    product = f"(tensor<{rows}x64xbf16>, tensor<{OUT}x64xbf16>)"
    assert f"{product} -> tensor<{rows}x{OUT}xf32>" in rewritten
    assert "stablehlo.convert" in rewritten
    assert worst_error(rewritten, signature) < 2**-8


@pytest.mark.parametrize("result", ["bf16", "f32"])
def test_many_rows_of_bf16_are_widened_where_the_processor_cannot_multiply_them(
    result: str,
) -> None:
    text, signature = linear_program(WIDE_ROWS, 64, "bf16")
    text = text.replace(f"{OUT}xbf16>", f"{OUT}x{result}>")
    signature = replace(signature, outputs=(replace(signature.outputs[0], dtype=result),))
    rewritten = rewrite_for_cpu(text, signature, bf16=False)
    rows, weight = f"tensor<{WIDE_ROWS}x64xf32>", f"tensor<{OUT}x64xf32>"
    assert f"({rows}, {weight}) -> tensor<{WIDE_ROWS}x{OUT}xf32>" in rewritten
    assert rewritten.count("stablehlo.convert") == (3 if result == "bf16" else 2)
    assert worst_error(rewritten, signature) < (2**-8 if result == "bf16" else 1e-6)


def test_products_of_attention_are_widened_where_the_processor_cannot_multiply_bf16() -> None:
    text, signature = linear_program(8, 64, "bf16")
    text = re.sub(r"tensor<(\d+)x(\d+)xbf16>", r"tensor<3x\1x\2xbf16>", text)
    text = text.replace(
        "contracting_dims = [1] x [1]", "batching_dims = [0] x [0], contracting_dims = [2] x [2]"
    )
    wide = f"(tensor<3x8x64xf32>, tensor<3x{OUT}x64xf32>) -> tensor<3x8x{OUT}xf32>"
    assert wide in rewrite_for_cpu(text, signature, bf16=False)


@pytest.mark.parametrize("bf16", [True, False])
def test_the_processor_decides(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_rewrites, "multiplies_bf16", lambda: bf16)
    text, signature = linear_program(WIDE_ROWS, 64, "bf16")
    assert rewrite_for_cpu(text, signature) == rewrite_for_cpu(text, signature, bf16=bf16)
    assert rewrite_for_cpu(text, signature) != rewrite_for_cpu(text, signature, bf16=not bf16)


def test_many_rows_of_f16_are_left_alone() -> None:
    text, signature = linear_program(MAX_ROWS["f16"] + 1, 64, "f16")
    assert "stablehlo.convert" not in rewrite_for_cpu(text, signature)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_rotary_angles_are_looked_up_once_for_all_layers(phase: str) -> None:
    text, signature = lowered("llama", phase)
    before, after = compiled(text, signature), compiled(rewrite_for_cpu(text, signature), signature)
    for function in (" cosine(", " sine("):
        assert before.as_text().count(function) == 4, "queries and keys of two layers"
        assert after.as_text().count(function) == 1
    given = inputs(signature, slot=1, start=5, length=3, positions=9)
    for found, expected in zip(after(*given.values()), before(*given.values()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(), (3,), (1, 4, 6), (2, 3, 4, 5)])
def test_angles_of_any_shape_keep_their_numbers(shape: tuple[int, ...]) -> None:
    kind = "x".join([*map(str, shape), "f32"])
    text = f"""
    func.func public @main(%x: tensor<{kind}>) -> tensor<{kind}> {{
      %s = stablehlo.sine %x : tensor<{kind}>
      %c = stablehlo.cosine %s : tensor<{kind}>
      return %c : tensor<{kind}>
    }}"""
    tensor = TensorSpec(name="x", kind="data", shape=shape, dtype="f32")
    signature = ProgramSignature(inputs=(tensor,), outputs=(tensor,), aliases={})
    (x,) = random_inputs(signature)
    x = np.asarray(x, np.float32)
    found = np.asarray(compiled(rewrite_for_cpu(text, signature), signature)(x)[0])
    np.testing.assert_array_equal(found, compiled(text, signature)(x)[0])


def test_weight_stored_by_input_rows_is_left_alone() -> None:
    text, signature = linear_program(1, 64, "bf16", weight_rows=False)
    assert "transpose" not in rewrite_for_cpu(text, signature)
