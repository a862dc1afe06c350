"""The KV cache as XLA:CPU reads it: the numbers of the traced program, in another place."""

import re
from typing import Any

import numpy as np
import pytest

from neuronc.targets.cpu_attention import attend_to_filled
from neuronc.targets.cpu_cache import lay_out_caches, lay_out_inputs
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.family_programs import BUCKET, LENGTH, inputs, lowered
from tests.unit.targets.linear_programs import compiled

SOME = ("llama", "bloom")
OTHERS = (
    "deepseek_v3",
    "falcon, one KV head",
    "gemma3_text",
    "gpt_oss",
    "gptj",
    "opt",
)  # attention of all kinds
FAMILIES = [*SOME, *(pytest.param(variant, marks=pytest.mark.slow) for variant in OTHERS)]


def laid_out(tensor: TensorSpec, traced: Any) -> Any:
    """What the rewritten program has where the traced one has ``traced``."""
    if tensor.kind != "cache" or traced.ndim != 4:
        return traced
    slots, length, heads, size = traced.shape
    if tensor.name.startswith("keys"):
        turned = traced.transpose(0, 2, 3, 1).reshape(slots * heads, size, length)
    else:
        turned = traced.transpose(0, 2, 1, 3).reshape(slots * heads, length, size)
    return turned.view(np.int16) if turned.itemsize == 2 else turned


def check_the_same(text: str, signature: ProgramSignature, *data: dict[str, Any]) -> None:
    """What was not written is as it was, bit for bit; the rest is what other orders of sums change."""
    before = compiled(text, signature)
    after = compiled(lay_out_caches(text, signature), lay_out_inputs(signature))
    for changed in data:
        given = inputs(signature) | changed
        expected = [np.asarray(value) for value in before(*given.values())]
        found = after(*(laid_out(t, given[t.name]) for t in signature.inputs))
        for tensor, mine, theirs in zip(signature.outputs, found, expected, strict=True):
            right = laid_out(tensor, theirs)
            if tensor.kind == "cache":
                kept = right == laid_out(tensor, given[tensor.name])
                np.testing.assert_array_equal(np.asarray(mine)[kept], right[kept])
            wide = right.view(theirs.dtype).astype(np.float32)
            atol = (1e-5 if tensor.dtype == "f32" else 2e-2) * np.abs(wide).max()
            values = np.asarray(mine).view(theirs.dtype).astype(np.float32)
            np.testing.assert_allclose(values, wide, rtol=0, atol=atol)


def prefill(start: int, length: int = BUCKET) -> dict[str, Any]:
    numbers = {"slot": 1, "start": start, "length": length}
    return {name: np.full(1, number, np.int32) for name, number in numbers.items()}


def decode(*positions: int) -> dict[str, Any]:
    return {"positions": np.array(positions, np.int32)}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("variant", FAMILIES)
def test_prefill_writes_and_reads_what_it_did(variant: str) -> None:
    text, signature = lowered(variant)
    # the last one has a chunk whose end is behind the cache's
    chunks = prefill(0), prefill(13, 3), prefill(LENGTH - BUCKET), prefill(LENGTH - 3, 3)
    check_the_same(text, signature, *chunks)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("variant", FAMILIES)
def test_a_decode_step_writes_and_reads_what_it_did(variant: str) -> None:
    text, signature = lowered(variant, "decode")
    check_the_same(text, signature, decode(0, 40), decode(LENGTH - 1, 7), decode(5, LENGTH))


@pytest.mark.parametrize("dtype", ["bf16", pytest.param("f16", marks=pytest.mark.slow)])
def test_half_precision_is_kept_bit_for_bit(dtype: str) -> None:
    check_the_same(*lowered("llama", dtype=dtype), prefill(13), prefill(LENGTH - 3, 3))
    check_the_same(*lowered("llama", "decode", dtype=dtype), decode(5, 63))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_nothing_turns_or_widens_a_whole_cache(phase: str) -> None:
    text, signature = lowered("llama", phase, dtype="bf16")
    text = rewrite_for_cpu(attend_to_filled(text, signature), signature)
    ours = lay_out_inputs(signature)
    program = compiled(lay_out_caches(text, signature), ours, in_place=True).as_text()
    keys = next(t for t in ours.inputs if t.name == "keys.0")
    shape = ",".join(map(str, keys.shape))
    entry = program[program.index("\nENTRY") :]
    made = re.findall(rf" = \w+\[{shape}\]\S* ([\w-]+)\(", entry)
    assert made
    assert f"s16[{shape}]" in program, "kept as integers"
    assert not {"copy", "transpose", "convert"} & set(made)
    assert "scatter" not in program


ODD = """
module {{
  func.func @main(%arg0: tensor<2x8x3x4x{t}>, %arg1: tensor<i32>) -> ({results}) {{
    %c = stablehlo.constant dense<0> : tensor<i32>
    %0 = stablehlo.slice %arg0 [0:2, 2:8:2, 1:3, 0:4]
      : (tensor<2x8x3x4x{t}>) -> tensor<2x3x2x4x{t}>
    %1 = stablehlo.dynamic_slice %arg0, %arg1, %c, %arg1, %c, sizes = [1, 8, 2, 4]
      : (tensor<2x8x3x4x{t}>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>)
      -> tensor<1x8x2x4x{t}>
    %2 = stablehlo.slice %arg0 [1:2, 1:7:3, 0:3, 1:3]
      : (tensor<2x8x3x4x{t}>) -> tensor<1x2x3x2x{t}>
    %3 = stablehlo.dynamic_slice %arg0, %arg1, %arg1, %c, %c, sizes = [1, 5, 3, 4]
      : (tensor<2x8x3x4x{t}>, tensor<i32>, tensor<i32>, tensor<i32>, tensor<i32>)
      -> tensor<1x5x3x4x{t}>
    %4 = stablehlo.negate %arg0 : tensor<2x8x3x4x{t}>
    %row = stablehlo.slice %arg0 [1:2, 2:3, 0:3, 0:4] : (tensor<2x8x3x4x{t}>) -> tensor<1x1x3x4x{t}>
    %place = stablehlo.constant dense<[[[0, 5]]]> : tensor<1x1x2xi32>
    %5 = "stablehlo.scatter"(%arg0, %place, %row) <{{scatter_dimension_numbers =
      #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1],
      scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>}}> ({{
    ^bb0(%old: tensor<{t}>, %new: tensor<{t}>):
      %sum = stablehlo.add %old, %new : tensor<{t}>
      stablehlo.return %sum : tensor<{t}>
    }}) : (tensor<2x8x3x4x{t}>, tensor<1x1x2xi32>, tensor<1x1x3x4x{t}>) -> tensor<2x8x3x4x{t}>
    %slots = stablehlo.iota dim = 0 : tensor<2x8x1xi32>
    %ones = stablehlo.constant dense<1> : tensor<2x8x1xi32>
    %swapped = stablehlo.subtract %ones, %slots : tensor<2x8x1xi32>
    %positions = stablehlo.iota dim = 1 : tensor<2x8x1xi32>
    %places = stablehlo.concatenate %swapped, %positions, dim = 2
      : (tensor<2x8x1xi32>, tensor<2x8x1xi32>) -> tensor<2x8x2xi32>
    %6 = "stablehlo.scatter"(%4, %places, %arg0) <{{scatter_dimension_numbers =
      #stablehlo.scatter<update_window_dims = [2, 3], inserted_window_dims = [0, 1],
      scatter_dims_to_operand_dims = [0, 1], index_vector_dim = 2>}}> ({{
    ^bb0(%old: tensor<{t}>, %new: tensor<{t}>):
      stablehlo.return %new : tensor<{t}>
    }}) : (tensor<2x8x3x4x{t}>, tensor<2x8x2xi32>, tensor<2x8x3x4x{t}>) -> tensor<2x8x3x4x{t}>
    return %0, {kept}, %1, %2, %3, %5, %6 : {results}
  }}
}}
"""


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("name", ["keys.0", "values.0"])
@pytest.mark.parametrize("kept", ["%4", "%arg0"])
def test_what_is_not_known_is_right(name: str, dtype: str, kept: str) -> None:
    """Some heads, steps, sums, a cache as what is written, one that is computed, one that stays."""
    whole = (2, 8, 3, 4)
    shapes = ((2, 3, 2, 4), whole, (1, 8, 2, 4), (1, 2, 3, 2), (1, 5, 3, 4), whole, whole)
    types = ", ".join(f"tensor<{'x'.join(map(str, shape))}x{dtype}>" for shape in shapes)
    cache = TensorSpec(name=name, kind="cache", shape=shapes[1], dtype=dtype)
    outputs = [TensorSpec(name="x", kind="data", shape=shape, dtype=dtype) for shape in shapes]
    outputs[1] = cache
    signature = ProgramSignature(
        inputs=(cache, TensorSpec(name="slot", kind="data", shape=(), dtype="i32")),
        outputs=tuple(outputs),
        aliases={1: 0},
    )
    text = ODD.format(t=dtype, results=types, kept=kept)
    check_the_same(text, signature, {"slot": np.int32(0)}, {"slot": np.int32(1)})


def test_a_program_without_caches_stays() -> None:
    text, signature = lowered("llama", "decode")
    inputs = tuple(t for t in signature.inputs if t.kind != "cache")
    bare = ProgramSignature(inputs=inputs, outputs=signature.outputs[:1], aliases={})
    assert lay_out_caches(text, bare) == text
    assert lay_out_inputs(bare) == bare
