import re
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets import cpu_rewrites
from neuronc.targets.cpu import COMPILER_OPTIONS
from neuronc.targets.cpu_rewrites import MAX_DEPTH, MAX_ROWS, rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.family_programs import inputs, lowered

OUT = 256


def linear_program(
    rows: int, depth: int, dtype: str, *, weight_rows: bool = True, residual: bool = False
) -> tuple[str, ProgramSignature]:
    """``x @ w.T`` or ``x @ w``, as the lowering writes it; ``residual`` adds a constant."""
    weight = (OUT, depth) if weight_rows else (depth, OUT)
    x, w, y = (f"tensor<{a}x{b}x{dtype}>" for a, b in ((rows, depth), weight, (rows, OUT)))
    text = f"""
    func.func public @main(%x: {x}, %w: {w}) -> {y} {{
      %y = stablehlo.dot_general %x, %w, contracting_dims = [1] x [{int(weight_rows)}]
        : ({x}, {w}) -> {y}
      %c = stablehlo.constant dense<{1.5 if residual else 0.0}> : {y}
      %sum = stablehlo.add %y, %c : {y}
      return {"%sum" if residual else "%y"} : {y}
    }}"""
    inputs = (
        TensorSpec(name="x", kind="data", shape=(rows, depth), dtype=dtype),
        TensorSpec(name="w", kind="weight", shape=weight, dtype=dtype),
    )
    output = TensorSpec(name="y", kind="data", shape=(rows, OUT), dtype=dtype)
    return text, ProgramSignature(inputs=inputs, outputs=(output,), aliases={})


def compiled(text: str, signature: ProgramSignature, *, in_place: bool = False) -> Any:
    shapes = [jax.ShapeDtypeStruct(t.shape, numpy_dtype(DTYPES[t.dtype])) for t in signature.inputs]
    donated = tuple(signature.aliases.values()) if in_place else ()
    function = as_jax_function(text, signature)
    lowered = jax.jit(function, donate_argnums=donated).lower(*shapes)
    return lowered.compile(compiler_options=COMPILER_OPTIONS)


def random_inputs(signature: ProgramSignature) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal(t.shape).astype(numpy_dtype(DTYPES[t.dtype])) for t in signature.inputs
    ]


def worst_error(text: str, signature: ProgramSignature) -> float:
    x, w = random_inputs(signature)
    found = np.asarray(compiled(text, signature)(x, w)[0]).astype(np.float64)
    expected = x.astype(np.float64) @ w.astype(np.float64).T
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def loop_of(program: str, signature: ProgramSignature) -> str:
    """What XLA computes for every element of the product: the fusion that the product is in."""
    found: str = compiled(program, signature).as_text()
    parts = found.split("\n\n")
    return next(part for part in parts if " dot(" in part and not part.startswith("ENTRY"))


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("rows", [1, 2, MAX_ROWS, 16])
@pytest.mark.parametrize("depth", [64, MAX_DEPTH + 3])
def test_half_precision_products_are_at_least_as_accurate_as_before(
    dtype: str, rows: int, depth: int
) -> None:
    text, signature = linear_program(rows, depth, dtype)
    before = worst_error(text, signature)
    assert worst_error(rewrite_for_cpu(text, signature), signature) <= before * 1.05


@pytest.mark.parametrize("rows", [1, 2, MAX_ROWS])
@pytest.mark.parametrize("depth", [512, 4 * MAX_DEPTH])
@pytest.mark.parametrize("residual", [False, True])
def test_few_rows_never_widen_the_weight_in_memory(
    rows: int, depth: int, *, residual: bool
) -> None:
    text, signature = linear_program(rows, depth, "bf16", residual=residual)
    widened_bytes = OUT * depth * 4

    def temporary_bytes(program: str) -> int:
        return int(compiled(program, signature).memory_analysis().temp_size_in_bytes)

    assert temporary_bytes(text) >= widened_bytes
    assert temporary_bytes(rewrite_for_cpu(text, signature)) < widened_bytes / 8


@pytest.mark.parametrize(("rows", "depth"), [(2, 64), (64, 64), (1, MAX_DEPTH + 1)])
def test_f32_products_of_many_rows_or_deep_ones_keep_their_dot(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "f32")
    rewritten = rewrite_for_cpu(text, signature)
    assert "transpose" not in rewritten
    assert worst_error(rewritten, signature) < 1e-6


@pytest.mark.parametrize("depth", [64, 576, MAX_DEPTH])
def test_one_row_of_f32_reads_the_weight_in_a_loop(depth: int) -> None:
    text, signature = linear_program(1, depth, "f32")
    rewritten = rewrite_for_cpu(text, signature)
    assert " dot(" in loop_of(rewritten, signature)
    assert worst_error(rewritten, signature) < 1e-6


def test_f32_weight_that_is_computed_keeps_its_dot() -> None:
    text, signature = linear_program(1, 64, "f32")
    kind = f"tensor<{OUT}x64xf32>"
    text = text.replace("%x, %w, contracting", "%x, %v, contracting").replace(
        "%y = stablehlo.dot_general",
        f"%v = stablehlo.add %w, %w : {kind}\n%y = stablehlo.dot_general",
    )
    assert "transpose" not in rewrite_for_cpu(text, signature)


def test_program_of_integers_is_left_as_it_is() -> None:
    text, signature = linear_program(1, 64, "i32")
    text = text.replace("0.0", "0")
    assert rewrite_for_cpu(text, signature) == text


def test_many_rows_keep_one_dot() -> None:
    text, signature = linear_program(MAX_ROWS + 1, 64, "bf16")
    rewritten = rewrite_for_cpu(text, signature)
    assert rewritten.count("dot_general") == 1
    assert "transpose" not in rewritten


def test_many_rows_of_bf16_are_summed_in_f32_and_rounded_after() -> None:
    text, signature = linear_program(MAX_ROWS + 1, 64, "bf16")
    rewritten = rewrite_for_cpu(text, signature, bf16=True)
    product = f"(tensor<{MAX_ROWS + 1}x64xbf16>, tensor<{OUT}x64xbf16>)"
    assert f"{product} -> tensor<{MAX_ROWS + 1}x{OUT}xf32>" in rewritten
    assert "stablehlo.convert" in rewritten
    assert worst_error(rewritten, signature) < 2**-8


@pytest.mark.parametrize("result", ["bf16", "f32"])
def test_many_rows_of_bf16_are_widened_where_the_processor_cannot_multiply_them(
    result: str,
) -> None:
    text, signature = linear_program(MAX_ROWS + 1, 64, "bf16")
    text = text.replace(f"{OUT}xbf16>", f"{OUT}x{result}>")
    signature = replace(signature, outputs=(replace(signature.outputs[0], dtype=result),))
    rewritten = rewrite_for_cpu(text, signature, bf16=False)
    rows, weight = f"tensor<{MAX_ROWS + 1}x64xf32>", f"tensor<{OUT}x64xf32>"
    assert f"({rows}, {weight}) -> tensor<{MAX_ROWS + 1}x{OUT}xf32>" in rewritten
    assert rewritten.count("stablehlo.convert") == (3 if result == "bf16" else 2)
    assert worst_error(rewritten, signature) < (2**-8 if result == "bf16" else 1e-6)


@pytest.mark.parametrize("bf16", [True, False])
def test_the_processor_decides(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_rewrites, "multiplies_bf16", lambda: bf16)
    text, signature = linear_program(MAX_ROWS + 1, 64, "bf16")
    assert rewrite_for_cpu(text, signature) == rewrite_for_cpu(text, signature, bf16=bf16)
    assert rewrite_for_cpu(text, signature) != rewrite_for_cpu(text, signature, bf16=not bf16)


def test_many_rows_of_f16_are_left_alone() -> None:
    text, signature = linear_program(MAX_ROWS + 1, 64, "f16")
    assert "stablehlo.convert" not in rewrite_for_cpu(text, signature)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
def test_nothing_before_a_product_is_done_in_the_loop_over_its_weight(dtype: str) -> None:
    text, signature = linear_program(1, 576, dtype)
    heads, row = f"tensor<3x3x64x{dtype}>", f"tensor<1x576x{dtype}>"
    text = text.replace(f"%x: {row}", f"%heads: {heads}").replace(
        "%y = stablehlo.dot_general",
        f"%twice = stablehlo.multiply %heads, %heads : {heads}\n"
        f"%x = stablehlo.reshape %twice : ({heads}) -> {row}\n"
        "%y = stablehlo.dot_general",
    )
    x = replace(signature.inputs[0], shape=(3, 3, 64))
    signature = replace(signature, inputs=(x, signature.inputs[1]))
    loop = loop_of(rewrite_for_cpu(text, signature), signature)
    inputs = re.findall(r"param\S*: (\w+\[[\d,]*\])", loop.splitlines()[0])
    assert set(inputs) == {"f32[1,576]", f"{dtype}[256,576]"}
    assert "multiply(" not in loop


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


@pytest.mark.parametrize(("rows", "dtype"), [(2, "bf16"), (1, "f32")])
def test_infinity_and_nan_survive_the_rewrite(rows: int, dtype: str) -> None:
    text, signature = linear_program(rows, 64, dtype)
    x, w = random_inputs(signature)
    w[0, 0], w[1, 5] = np.inf, np.nan
    before = np.asarray(compiled(text, signature)(x, w)[0]).astype(np.float32)
    after = compiled(rewrite_for_cpu(text, signature), signature)(x, w)[0]
    np.testing.assert_array_equal(np.isnan(before), np.isnan(np.asarray(after).astype(np.float32)))
    np.testing.assert_array_equal(np.isinf(before), np.isinf(np.asarray(after).astype(np.float32)))
