import re
from dataclasses import replace
from math import prod

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
    temporary_bytes,
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
def test_weight_as_lowered_is_widened_in_memory(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "bf16")
    assert temporary_bytes(text, signature) >= OUT * depth * 4


@pytest.mark.parametrize(
    ("rows", "depth", "dtype"),
    [
        (1, 512, "bf16"),
        (2, 4 * MAX_DEPTH, "bf16"),
        (MAX_ROWS["bf16"], 512, "bf16"),
        (MAX_ROWS["f16"], MAX_DEPTH + 3, "f16"),
        (1, MAX_DEPTH, "f32"),
        (2, 512, "f32"),
        (FEW_ROWS_F32, MAX_DEPTH, "f32"),
        (MAX_ROWS["f32"], MAX_NUMBERS_F32 // MAX_ROWS["f32"], "f32"),
    ],
)
@pytest.mark.parametrize("added", ["", "constant", "product"])
def test_few_rows_never_make_anything_of_the_weight_in_memory(
    rows: int, depth: int, dtype: str, added: str
) -> None:
    text, signature = linear_program(rows, depth, dtype, added=added)
    rewritten = rewrite_for_cpu(text, signature)
    assert "transpose" in rewritten
    widened_bytes = OUT * depth * 4
    assert temporary_bytes(rewritten, signature) < widened_bytes / (8 if rows <= 8 else 2)


@pytest.mark.parametrize(
    ("rows", "depth"),
    [
        (MAX_ROWS["f32"] + 1, 64),
        (1, MAX_DEPTH + 1),
        (2, MAX_DEPTH + 1),
        (FEW_ROWS_F32 + 1, MAX_NUMBERS_F32 // (FEW_ROWS_F32 + 1) + 1),
    ],
)
def test_f32_products_of_many_rows_or_deep_ones_keep_their_dot(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "f32")
    assert "transpose" not in rewrite_for_cpu(text, signature)


@pytest.mark.parametrize(
    ("rows", "depth"),
    [
        (1, 64),
        (1, MAX_DEPTH),
        (FEW_ROWS_F32, MAX_DEPTH),
        (MAX_ROWS["f32"], MAX_NUMBERS_F32 // MAX_ROWS["f32"]),
    ],
)
def test_few_rows_of_f32_have_the_same_numbers(rows: int, depth: int) -> None:
    text, signature = linear_program(rows, depth, "f32")
    rewritten = rewrite_for_cpu(text, signature)
    assert "transpose" in rewritten
    assert worst_error(rewritten, signature) < 1e-6


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
def test_all_rows_meet_a_row_of_the_weight_in_one_loop(dtype: str) -> None:
    text, signature = linear_program(3, 64, dtype)
    rewritten = rewrite_for_cpu(text, signature)
    loop = loop_of(rewritten, signature)
    assert compiled(rewritten, signature).as_text().count(" dot(") == 1
    assert f"{dtype}[{OUT},64]" in loop.splitlines()[0], "the weight as it is stored goes in"
    assert f"-> f32[{3 * OUT}]" in loop.splitlines()[0], "and all sums come out"


@pytest.mark.parametrize("rows", [1, 2])
def test_a_later_piece_of_the_input_is_made_negative_once(rows: int) -> None:
    text, signature = linear_program(rows, MAX_DEPTH + 3, "bf16")
    found = compiled(rewrite_for_cpu(text, signature), signature).as_text()
    loops = [part for part in found.split("\n\n") if " dot(" in part]
    assert len(loops) == 2
    assert "negate(" in found
    assert not any("negate(" in loop for loop in loops)


@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_a_row_has_the_same_numbers_wherever_it_is(dtype: str) -> None:
    text, signature = linear_program(MAX_ROWS["f32"], 576, dtype)
    x, w = random_inputs(signature)
    x[:] = x[0]
    found = np.asarray(compiled(rewrite_for_cpu(text, signature), signature)(x, w)[0])
    np.testing.assert_array_equal(found, np.broadcast_to(found[0], found.shape))


def test_f32_weight_that_is_computed_keeps_its_dot() -> None:
    text, signature = linear_program(2, 64, "f32")
    kind = f"tensor<{OUT}x64xf32>"
    text = text.replace("%x, %w, contracting", "%x, %v, contracting").replace(
        "%y = stablehlo.dot_general",
        f"%v = stablehlo.add %w, %w : {kind}\n%y = stablehlo.dot_general",
    )
    assert "transpose" not in rewrite_for_cpu(text, signature)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32"])
@pytest.mark.parametrize("shape", [(1, 9, 64), (3, 3, 64), (3, 9, 64)])
def test_nothing_before_a_product_is_done_in_the_loop_over_its_weight(
    dtype: str, shape: tuple[int, int, int]
) -> None:
    rows = prod(shape) // 576
    text, signature = linear_program(rows, 576, dtype)
    heads = f"tensor<{'x'.join(map(str, shape))}x{dtype}>"
    row = f"tensor<{rows}x576x{dtype}>"
    text = text.replace(f"%x: {row}", f"%heads: {heads}").replace(
        "%y = stablehlo.dot_general",
        f"%twice = stablehlo.multiply %heads, %heads : {heads}\n"
        f"%x = stablehlo.reshape %twice : ({heads}) -> {row}\n"
        "%y = stablehlo.dot_general",
    )
    x = replace(signature.inputs[0], shape=shape)
    signature = replace(signature, inputs=(x, signature.inputs[1]))
    loop = loop_of(rewrite_for_cpu(text, signature), signature)
    inputs = re.findall(r"param\S*: (\w+\[[\d,]*\])", loop.splitlines()[0])
    assert set(inputs) == {f"f32[{rows},576]", f"{dtype}[256,576]"}
    assert loop.count("multiply(") == (rows > 1), "of weight and rows; what is before is twice x"


@pytest.mark.parametrize(
    ("rows", "depth", "dtype"),
    [(1, 64, "f32"), (2, 64, "f32"), (1, 64, "bf16"), (2, MAX_DEPTH + 3, "bf16")],
)
def test_infinity_and_nan_survive(rows: int, depth: int, dtype: str) -> None:
    text, signature = linear_program(rows, depth, dtype)
    x, w = random_inputs(signature)
    w[0, 0], w[1, 5], w[2, depth - 1] = np.inf, np.nan, -np.inf
    x[0, 0] = 0 if rows == 2 else x[0, 0]
    before = np.asarray(compiled(text, signature)(x, w)[0]).astype(np.float32)
    after = np.asarray(compiled(rewrite_for_cpu(text, signature), signature)(x, w)[0])
    after = after.astype(np.float32)
    for test in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(test(before), test(after))


def test_product_for_each_of_a_batch_is_left_alone() -> None:
    text, signature = linear_program(2, 64, "f32")
    one, result = "tensor<2x64xf32>", "tensor<2xf32>"
    text = text.replace(f"tensor<{OUT}x64xf32>", one).replace(f"tensor<2x{OUT}xf32>", result)
    text = text.replace("contracting_dims", "batching_dims = [0] x [0], contracting_dims")
    assert "batching_dims = [0] x [0]" in rewrite_for_cpu(text, signature)
