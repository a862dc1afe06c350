"""Products of 8-bit weights on XLA:CPU: merged as they are stored, and never widened in memory."""

import re
from typing import Any

import numpy as np
import pytest

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.targets.cpu_few_rows import MAX_DEPTH, MAX_ROWS
from neuronc.targets.cpu_merge import merge_inputs, merge_linears
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.linear_programs import compiled, temporary_bytes

OUTS = {"up": 256, "gate": 128}


def program(rows: int, depth: int, dtype: str, x_dtype: str) -> tuple[str, ProgramSignature]:
    """``gate`` and ``up`` of ``x``, of weights in ``dtype``."""
    element, x = DTYPES[dtype].mlir, f"tensor<{rows}x{depth}x{x_dtype}>"
    lines, arguments = [], []
    for name, out in OUTS.items():
        stored, wide = (f"tensor<{out}x{depth}x{e}>" for e in (element, x_dtype))
        result = f"tensor<{rows}x{out}x{x_dtype}>"
        arguments.append(f"%{name}: {stored}")
        lines.append(f"%{name}_w = stablehlo.convert %{name} : ({stored}) -> {wide}")
        lines.append(
            f"%{name}_y = stablehlo.dot_general %x, %{name}_w, contracting_dims = [1] x [1]"
            f" : ({x}, {wide}) -> {result}"
        )
    results = ", ".join(f"tensor<{rows}x{out}x{x_dtype}>" for out in OUTS.values())
    body, names = "\n".join(lines), ", ".join(f"%{name}_y" for name in OUTS)
    text = f"""func.func public @main({", ".join(arguments)}, %x: {x}) -> ({results}) {{
      {body}
      return {names} : {results}
    }}"""
    inputs = (
        *(
            TensorSpec(name=n, kind="weight", shape=(o, depth), dtype=dtype)
            for n, o in OUTS.items()
        ),
        TensorSpec(name="x", kind="data", shape=(rows, depth), dtype=x_dtype),
    )
    outputs = tuple(
        TensorSpec(name=n, kind="data", shape=(rows, o), dtype=x_dtype) for n, o in OUTS.items()
    )
    return text, ProgramSignature(inputs=inputs, outputs=outputs, aliases={})


def inputs_of(signature: ProgramSignature) -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(-100, 100, t.shape).astype(numpy_dtype(DTYPES[t.dtype]))
        for t in signature.inputs
    ]


@pytest.mark.parametrize("dtype", ["i8", "f8e4m3fn"])
@pytest.mark.parametrize("x_dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("rows", "depth"), [(1, 64), (2, MAX_DEPTH + 3), (3, 64), (17, 64)])
def test_merged_and_rewritten_products_are_what_they_were(
    dtype: str, x_dtype: str, rows: int, depth: int
) -> None:
    text, signature = program(rows, depth, dtype, x_dtype)
    merged_text, merged = merge_linears(text, signature)
    assert merged == (("up", "gate"),)
    assert merged_text.count("stablehlo.dot_general") == 1
    small = merge_inputs(signature, merged)
    assert [(t.shape[0], t.dtype) for t in small.inputs[:1]] == [(384, dtype)]
    up, gate, x = inputs_of(signature)
    found = compiled(rewrite_for_cpu(merged_text, small), small)(np.concatenate([up, gate]), x)
    for weight, one in zip((up, gate), found, strict=True):
        expected = x.astype(np.float64) @ weight.astype(np.float64).T
        error = np.abs(np.asarray(one).astype(np.float64) - expected).max()
        assert error <= np.abs(expected).max() * DTYPES[x_dtype].eps * (
            2 if rows <= MAX_ROWS[DTYPES[dtype].mlir] else 16
        )


@pytest.mark.parametrize(
    ("rows", "dtype"), [(1, "i8"), (16, "i8"), (1, "f8e4m3fn"), (2, "f8e4m3fn")]
)
@pytest.mark.parametrize("x_dtype", ["f32", "bf16"])
def test_few_rows_never_widen_the_weight_in_memory(rows: int, dtype: str, x_dtype: str) -> None:
    text, signature = program(rows, 512, dtype, x_dtype)
    assert rows == MAX_ROWS[DTYPES[dtype].mlir] or rows == 1
    assert temporary_bytes(text, signature) >= 256 * 512 * 2
    kept = temporary_bytes(rewrite_for_cpu(text, signature), signature)
    assert kept < 256 * 512 / (2 if rows <= 2 else 1)


@pytest.mark.parametrize("rows", [3, 4, 5])
def test_more_rows_of_fp8_are_summed_in_f32(rows: int) -> None:
    text, signature = program(rows, 64, "f8e4m3fn", "bf16")
    rewritten = rewrite_for_cpu(text, signature, bf16=True)
    assert f"tensor<128x64xbf16>) -> tensor<{rows}x128xf32>" in rewritten


def test_products_of_a_batch_of_8_bit_weights_are_summed_in_f32() -> None:
    text, signature = program(8, 64, "i8", "bf16")
    text = re.sub(r"tensor<(\d+)x(\d+)x(i8|bf16)>", r"tensor<3x\1x\2x\3>", text)
    text = text.replace(
        "contracting_dims = [1] x [1]", "batching_dims = [0] x [0], contracting_dims = [2] x [2]"
    )
    rewritten = rewrite_for_cpu(text, signature, bf16=True)
    assert "tensor<3x128x64xbf16>) -> tensor<3x8x128xf32>" in rewritten
