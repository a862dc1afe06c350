import re
from dataclasses import replace

import numpy as np
import pytest

from neuronc.targets.cpu_few_rows import FEW_ROWS_F32, MAX_DEPTH, MAX_NUMBERS_F32, MAX_ROWS
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from tests.unit.targets.linear_programs import (
    OUT,
    compiled,
    linear_program,
    loop_of,
    random_inputs,
    worst_error,
)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("rows", [1, 2, MAX_ROWS["bf16"], MAX_ROWS["f16"], 24])
@pytest.mark.parametrize("depth", [64, MAX_DEPTH + 3])
def test_half_precision_products_are_at_least_as_accurate_as_before(
    dtype: str, rows: int, depth: int
) -> None:
    text, signature = linear_program(rows, depth, dtype)
    before = worst_error(text, signature)
    assert worst_error(rewrite_for_cpu(text, signature), signature) <= before * 1.05


@pytest.mark.parametrize("rows", [1, 2, MAX_ROWS["bf16"]])
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


@pytest.mark.parametrize(
    ("rows", "depth"),
    [
        (MAX_ROWS["f32"] + 1, 64),
        (1, MAX_DEPTH + 1),
        (FEW_ROWS_F32 + 1, MAX_NUMBERS_F32 // (FEW_ROWS_F32 + 1) + 1),
    ],
)
def test_f32_products_of_many_rows_or_deep_ones_keep_their_dot(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "f32")
    rewritten = rewrite_for_cpu(text, signature)
    assert "transpose" not in rewritten
    assert worst_error(rewritten, signature) < 2e-6


@pytest.mark.parametrize(
    ("rows", "depth"),
    [
        (1, 64),
        (1, MAX_DEPTH),
        (FEW_ROWS_F32, MAX_DEPTH),
        (MAX_ROWS["f32"], MAX_NUMBERS_F32 // MAX_ROWS["f32"]),
    ],
)
def test_few_rows_of_f32_read_the_weight_in_a_loop(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "f32")
    rewritten = rewrite_for_cpu(text, signature)
    assert " dot(" in loop_of(rewritten, signature)
    assert worst_error(rewritten, signature) < 1e-6


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_all_rows_meet_a_row_of_the_weight_in_one_loop(dtype: str) -> None:
    text, signature = linear_program(3, 64, dtype)
    found = compiled(rewrite_for_cpu(text, signature), signature).as_text()
    assert found.count(" dot(") == 1
    assert f"f32[{3 * OUT}]" in loop_of(rewrite_for_cpu(text, signature), signature)


def test_rows_of_a_batch_have_the_numbers_that_they_have_alone() -> None:
    text, signature = linear_program(4, 576, "f32")
    x, w = random_inputs(signature)
    alone, one = linear_program(1, 576, "f32")
    together = compiled(rewrite_for_cpu(text, signature), signature)(x, w)[0]
    by_row = compiled(rewrite_for_cpu(alone, one), one)
    rows = [np.asarray(by_row(x[row : row + 1], w)[0]) for row in range(4)]
    np.testing.assert_allclose(together, np.concatenate(rows), rtol=0, atol=1e-5)


def test_f32_weight_that_is_computed_keeps_its_dot() -> None:
    text, signature = linear_program(2, 64, "f32")
    kind = f"tensor<{OUT}x64xf32>"
    text = text.replace("%x, %w, contracting", "%x, %v, contracting").replace(
        "%y = stablehlo.dot_general",
        f"%v = stablehlo.add %w, %w : {kind}\n%y = stablehlo.dot_general",
    )
    assert "transpose" not in rewrite_for_cpu(text, signature)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("rows", [1, 3])
def test_nothing_before_a_product_is_done_in_the_loop_over_its_weight(
    dtype: str, rows: int
) -> None:
    text, signature = linear_program(rows, 576, dtype)
    heads, row = f"tensor<{rows}x9x64x{dtype}>", f"tensor<{rows}x576x{dtype}>"
    text = text.replace(f"%x: {row}", f"%heads: {heads}").replace(
        "%y = stablehlo.dot_general",
        f"%twice = stablehlo.multiply %heads, %heads : {heads}\n"
        f"%x = stablehlo.reshape %twice : ({heads}) -> {row}\n"
        "%y = stablehlo.dot_general",
    )
    x = replace(signature.inputs[0], shape=(rows, 9, 64))
    signature = replace(signature, inputs=(x, signature.inputs[1]))
    loop = loop_of(rewrite_for_cpu(text, signature), signature)
    inputs = re.findall(r"param\S*: (\w+\[[\d,]*\])", loop.splitlines()[0])
    assert set(inputs) == {f"f32[{rows},576]", f"{dtype}[256,576]"}
    assert loop.count("multiply(") == (rows > 1), "of weight and rows; what is before is twice x"
