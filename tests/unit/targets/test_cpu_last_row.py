"""The last layer of a prefill for the picked row only: the numbers it had, and less to compute."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuronc.targets.cpu_last_row import keep_last_row
from neuronc.targets.cpu_merge import merge_inputs, merge_linears
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.targets.family_programs import BUCKET, LENGTH, inputs, lowered
from tests.unit.targets.linear_programs import compiled
from tests.unit.targets.test_cpu_attention import outputs, product_sizes


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about itself
@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_a_family_has_the_numbers_that_it_had(variant: str) -> None:
    """Every family has them in `test_cpu_attention`, by blocks of keys as well."""
    text, signature = lowered(variant)
    before, after = compiled(text, signature), compiled(keep_last_row(text, signature), signature)
    for start, length in ((0, 3), (13, BUCKET), (LENGTH - BUCKET, 1)):
        given = inputs(signature, slot=1, start=start, length=length)
        for found, expected in zip(outputs(after, given), outputs(before, given), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_ranks_sum_one_row() -> None:
    text, signature = lowered("llama", tp=2)
    sums = re.compile(r"stablehlo\.all_reduce.*?-> tensor<([0-9x]+)xf32>", re.DOTALL)
    hidden = [shape for shape in sums.findall(text) if shape.endswith("x36")]
    assert hidden[-4:] == [f"1x{BUCKET}x36"] * 4 or hidden[-4:] == [f"{BUCKET}x36"] * 4
    found = [
        shape for shape in sums.findall(keep_last_row(text, signature)) if shape.endswith("x36")
    ]
    assert found == [*hidden[:-2], *(shape.replace(str(BUCKET), "1") for shape in hidden[-2:])]


def test_a_decode_step_stays() -> None:
    text, signature = lowered("llama", "decode")
    assert keep_last_row(text, signature) == text


def test_a_row_that_differs_by_rank_stays() -> None:
    """Its number is not the same on the ranks whose rows are added up."""
    text, signature = picking(MIXES["by row"])
    x, at = signature.inputs
    by_rank = replace(signature, inputs=(x, replace(at, kind="rank")))
    assert keep_last_row(text, signature) != text
    assert keep_last_row(text, by_rank) == text


def test_queries_that_are_merged_with_keys_are_one_product_of_all_rows() -> None:
    text, signature = lowered("llama")
    merged, groups = merge_linears(text, signature)
    one_row = keep_last_row(merged, merge_inputs(signature, groups))
    assert f"tensor<{BUCKET}x96xf32>" in one_row, "queries, keys and values"
    assert product_sizes(one_row) < 0.75 * product_sizes(merged)


def picking(body: str, *, also: str = "", rows: int = 8) -> tuple[str, ProgramSignature]:
    """A program that makes %y ``[8, 6]`` of %x and picks a row of it."""
    x, y, one = (f"tensor<{n}x6xf32>" for n in (rows, 8, 1))
    gathers = "offset_dims = [1], collapsed_slice_dims = [0], start_index_map = [0]"
    text = f"""
    func.func public @main(%x: {x}, %at: tensor<1xi32>) -> ({", ".join([one, *([y] * bool(also))])}) {{
      %zero = stablehlo.constant dense<0.0> : tensor<f32>
      {body}
      %row = "stablehlo.gather"(%y, %at) <{{
        dimension_numbers = #stablehlo.gather<{gathers}, index_vector_dim = 1>,
        slice_sizes = array<i64: 1, 6>, indices_are_sorted = false
      }}> : ({y}, tensor<1xi32>) -> {one}
      return {", ".join(["%row", *([also] * bool(also))])} : {", ".join([one, *([y] * bool(also))])}
    }}"""
    given = (
        TensorSpec(name="x", kind="data", shape=(rows, 6), dtype="f32"),
        TensorSpec(name="at", kind="data", shape=(1,), dtype="i32"),
    )
    made = [(1, 6), *([(8, 6)] * bool(also))]
    found = tuple(TensorSpec(name="y", kind="data", shape=shape, dtype="f32") for shape in made)
    return text, ProgramSignature(inputs=given, outputs=found, aliases={})


MIXES = {
    "by row": "%y = stablehlo.exponential %x : tensor<8x6xf32>",
    "rows lie last": """
      %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<8x6xf32>) -> tensor<6x8xf32>
      %e = stablehlo.sine %t : tensor<6x8xf32>
      %y = stablehlo.transpose %e, dims = [1, 0] : (tensor<6x8xf32>) -> tensor<8x6xf32>""",
    "rows in a dim with others": """
      %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<8x6xf32>) -> tensor<6x8xf32>
      %e = stablehlo.sine %t : tensor<6x8xf32>
      %two = stablehlo.reshape %e : (tensor<6x8xf32>) -> tensor<2x24xf32>
      %more = stablehlo.reshape %two : (tensor<2x24xf32>) -> tensor<2x24x1xf32>
      %six = stablehlo.reshape %more : (tensor<2x24x1xf32>) -> tensor<6x8xf32>
      %y = stablehlo.transpose %six, dims = [1, 0] : (tensor<6x8xf32>) -> tensor<8x6xf32>""",
    "rows across what is cut otherwise": """
      %r = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<8x2x3xf32>
      %a = stablehlo.transpose %r, dims = [1, 0, 2] : (tensor<8x2x3xf32>) -> tensor<2x8x3xf32>
      %b = stablehlo.reshape %a : (tensor<2x8x3xf32>) -> tensor<3x8x2xf32>
      %c = stablehlo.transpose %b, dims = [1, 0, 2] : (tensor<3x8x2xf32>) -> tensor<8x3x2xf32>
      %y = stablehlo.reshape %c : (tensor<8x3x2xf32>) -> tensor<8x6xf32>""",
    "rows behind what is added up": """
      %r = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<8x2x3xf32>
      %a = stablehlo.transpose %r, dims = [1, 0, 2] : (tensor<8x2x3xf32>) -> tensor<2x8x3xf32>
      %s = stablehlo.reduce(%a init: %zero) applies stablehlo.add across dimensions = [0]
        : (tensor<2x8x3xf32>, tensor<f32>) -> tensor<8x3xf32>
      %y = stablehlo.concatenate %s, %s, dim = 1
        : (tensor<8x3xf32>, tensor<8x3xf32>) -> tensor<8x6xf32>""",
    "rows split": """
      %r = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<2x4x6xf32>
      %t = stablehlo.transpose %r, dims = [1, 0, 2] : (tensor<2x4x6xf32>) -> tensor<4x2x6xf32>
      %y = stablehlo.reshape %t : (tensor<4x2x6xf32>) -> tensor<8x6xf32>""",
    "rows turned": """
      %a = stablehlo.slice %x [0:3, 0:6] : (tensor<8x6xf32>) -> tensor<3x6xf32>
      %b = stablehlo.slice %x [3:8, 0:6] : (tensor<8x6xf32>) -> tensor<5x6xf32>
      %y = stablehlo.concatenate %b, %a, dim = 0
        : (tensor<5x6xf32>, tensor<3x6xf32>) -> tensor<8x6xf32>""",
    "rows added up": """
      %s = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0]
        : (tensor<8x6xf32>, tensor<f32>) -> tensor<6xf32>
      %w = stablehlo.broadcast_in_dim %s, dims = [1] : (tensor<6xf32>) -> tensor<8x6xf32>
      %y = stablehlo.add %w, %x : tensor<8x6xf32>""",
    "rows mixed": """
      %m = stablehlo.dot_general %x, %x, contracting_dims = [1] x [1]
        : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x8xf32>
      %y = stablehlo.dot_general %m, %x, contracting_dims = [1] x [0]
        : (tensor<8x8xf32>, tensor<8x6xf32>) -> tensor<8x6xf32>""",
    "a plain product": """
      %m = stablehlo.dot_general %x, %x, contracting_dims = [1] x [1]
        : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x8xf32>
      %e = stablehlo.sine %m : tensor<8x8xf32>
      %y = stablehlo.dot %e, %x : (tensor<8x8xf32>, tensor<8x6xf32>) -> tensor<8x6xf32>""",
    "rows of the second factor": """
      %m = stablehlo.dot_general %x, %x, contracting_dims = [0] x [0]
        : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<6x6xf32>
      %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<8x6xf32>) -> tensor<6x8xf32>
      %p = stablehlo.dot %m, %t : (tensor<6x6xf32>, tensor<6x8xf32>) -> tensor<6x8xf32>
      %y = stablehlo.transpose %p, dims = [1, 0] : (tensor<6x8xf32>) -> tensor<8x6xf32>""",
    "a vector's product": """
      %v = stablehlo.slice %x [0:8, 0:1] : (tensor<8x6xf32>) -> tensor<8x1xf32>
      %f = stablehlo.reshape %v : (tensor<8x1xf32>) -> tensor<8xf32>
      %d = stablehlo.dot_general %x, %x, contracting_dims = [1] x [1]
        : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x8xf32>
      %p = stablehlo.dot %f, %d : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
      %y = stablehlo.broadcast_in_dim %p, dims = [0] : (tensor<8xf32>) -> tensor<8x6xf32>""",
    "one value by row and by column": """
      %m = stablehlo.dot_general %x, %x, contracting_dims = [1] x [1]
        : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x8xf32>
      %t = stablehlo.transpose %m, dims = [1, 0] : (tensor<8x8xf32>) -> tensor<8x8xf32>
      %d = stablehlo.subtract %m, %t : tensor<8x8xf32>
      %e = stablehlo.exponential %d : tensor<8x8xf32>
      %y = stablehlo.slice %e [0:8, 1:7] : (tensor<8x8xf32>) -> tensor<8x6xf32>""",
}  # fmt: skip


STAY = ("rows split", "rows turned")


@pytest.mark.parametrize("name", MIXES)
def test_a_row_is_what_it_was_however_it_is_made(name: str) -> None:
    text, signature = picking(MIXES[name])
    assert (keep_last_row(text, signature) == text) == (name in STAY)
    check(text, signature)


def test_heads_that_share_keys_are_moved_past() -> None:
    """As query heads are: rows in one dim with others, and apart again."""
    (line,) = re.findall(r"sine.*", keep_last_row(*picking(MIXES["rows in a dim with others"])))
    assert line.endswith("tensor<6x1xf32>")


def test_what_is_the_same_for_every_row_is_not_made_for_all() -> None:
    body = """
      %w = stablehlo.broadcast_in_dim %zero, dims = [] : (tensor<f32>) -> tensor<8x6xf32>
      %y = stablehlo.add %w, %x : tensor<8x6xf32>"""
    text, signature = picking(body, also="%w")
    made = re.findall(r"broadcast_in_dim.*-> tensor<(.*)xf32>", keep_last_row(text, signature))
    assert sorted(made) == ["1x6", "8x6"]
    check(text, signature)


def test_rows_of_more_rows() -> None:
    """A slice from another row on, and one that begins with the first."""
    for begin in (0, 2):
        body = f"""
          %e = stablehlo.cosine %x : tensor<12x6xf32>
          %y = stablehlo.slice %e [{begin}:{begin + 8}, 0:6] : (tensor<12x6xf32>) -> tensor<8x6xf32>"""
        check(*picking(body, rows=12))


def check(text: str, signature: ProgramSignature) -> None:
    x = np.random.default_rng(0).standard_normal(signature.inputs[0].shape).astype(np.float32)
    before, after = compiled(text, signature), compiled(keep_last_row(text, signature), signature)

    def row(program: Any, at: int) -> Any:
        return np.asarray(program(x, np.array([at], np.int32))[0])

    for at in (-1, 0, 3, 7, 9):  # as a gather, a row that is not there is the nearest
        np.testing.assert_allclose(row(after, at), row(before, at), rtol=1e-5, atol=1e-6)


def test_what_else_is_read_is_computed_whole() -> None:
    body = """
      %e = stablehlo.cosine %x : tensor<8x6xf32>
      %y = stablehlo.exponential %e : tensor<8x6xf32>"""
    assert "tensor<8x6xf32>" not in re.findall(r"exponential.*", keep_last_row(*picking(body)))[0]
    text, signature = picking(body, also="%y")
    assert keep_last_row(text, signature) == text
    kept = keep_last_row(*picking(body, also="%e"))
    assert "tensor<1x6xf32>" in re.findall(r"exponential.*", kept)[0]
    assert "tensor<8x6xf32>" in re.findall(r"cosine.*", kept)[0]
    check(*picking(body, also="%e"))
