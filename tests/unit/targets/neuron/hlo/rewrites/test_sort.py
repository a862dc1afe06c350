from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax import lax

from neuronc.errors import CompilerError
from tests.hlo_programs import Pair, assert_same, from_text, legal_module, make_pair, runner

NAN, INF = np.nan, np.inf
AWKWARD = np.array(
    [
        [1, NAN, 2, -NAN, -0.0, 0.0, INF, -INF, 2],
        [3, 1, 3, 3, 0, -0.0, 0, 1, -0.0],
        [-INF, INF, -INF, NAN, INF, 0, NAN, -1, -2],
    ],
    np.float32,
)
INTEGERS = np.array([[3, 1, 3, -(2**31), 0], [2**31 - 1, 7, 7, 2**31 - 1, -2]], np.int32)
FLOATS = [np.float32, ml_dtypes.bfloat16, np.float16]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("descending", [False, True])
def test_sorts_of_floats_are_exact(dtype: Any, axis: int, descending: bool) -> None:
    def both(x: Any) -> Any:
        return (
            jnp.sort(x, axis, descending=descending),
            jnp.argsort(x, axis, descending=descending),
        )

    assert_same(both, AWKWARD.astype(dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
@pytest.mark.parametrize("axis", [0, 1])
def test_sorts_of_integers_and_truth_values_are_exact(dtype: Any, axis: int) -> None:
    x = INTEGERS.astype(dtype)
    assert_same(lambda x: (jnp.sort(x, axis).astype(jnp.int32), jnp.argsort(x, axis)), x)


def test_operands_of_every_type_go_along() -> None:
    shape = AWKWARD.shape
    rng = np.random.default_rng(0)
    carried = (
        rng.integers(-5, 5, shape).astype(np.int32),
        AWKWARD[::-1].astype(ml_dtypes.bfloat16),
        AWKWARD > 0,
        rng.integers(0, 255, shape).astype(np.uint8),
    )
    assert_same(lambda *x: lax.sort(x, num_keys=1), AWKWARD, *carried)


@pytest.fixture(scope="module")
def any_sort() -> Pair:
    x = np.zeros((3, 7), np.float32)
    return make_pair(lambda x: (jnp.sort(x, 1), jnp.argsort(x, 0, descending=True)), x)


FEW = st.sampled_from([-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN, -NAN])


@settings(deadline=None, max_examples=150, derandomize=True)
@given(x=arrays(np.float32, (3, 7), elements=FEW | st.floats(width=32, allow_subnormal=False)))
def test_any_values_are_sorted_alike(any_sort: Pair, x: Any) -> None:
    any_sort.check(x)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(shape=st.tuples(*[st.integers(1, 5)] * 3), axis=st.integers(0, 2), data=st.data())
def test_any_shape_is_sorted_along_any_axis(shape: Any, axis: int, data: Any) -> None:
    x = data.draw(arrays(np.int32, shape, elements=st.integers(-3, 3)))
    assert_same(lambda x: (jnp.sort(x, axis), jnp.argsort(x, axis)), x)


SORT = """HloModule m
by {{
  a = {dtype}[] parameter(0)
  b = {dtype}[] parameter(1)
  i = s32[] parameter(2)
  j = s32[] parameter(3)
  zero = {dtype}[] constant(0)
  one = {dtype}[] constant(1)
  {code}
}}
ENTRY e {{
  x = {dtype}[2,{size}] parameter(0)
  p = s32[2,{size}] iota(), iota_dimension=1
  s = ({dtype}[2,{size}], s32[2,{size}]) sort(x, p), dimensions={{1}}, to_apply=by
  ROOT o = s32[2,{size}] get-tuple-element(s), index=1
}}
"""


def sort_by(code: str, dtype: str = "f32", size: int = 6) -> bytes:
    return from_text(SORT.format(code=f"ROOT c = pred[] {code}", dtype=dtype, size=size))


def positions(hlo: bytes, x: Any) -> Any:
    legal = legal_module(hlo).SerializeToString()
    (found,) = runner(legal, [np.zeros(x.shape, np.int32)])(x)
    return found


@pytest.mark.parametrize(
    ("direction", "sign"), [("LT", 1), ("LE", 1), ("GT", -1), ("GE", -1)], ids=str
)
def test_every_direction_is_a_stable_sort(direction: str, sign: int) -> None:
    x = np.array([[2, 1, 2, 0.0, -0.0, 2], [-0.0, 0.0, -1, 5, 5, -INF]], np.float32)
    found = positions(sort_by(f"compare(a, b), direction={direction}"), x)
    np.testing.assert_array_equal(found, np.argsort(sign * x, 1, kind="stable"))


@pytest.mark.parametrize("direction", ["LT", "GT"])
def test_a_plain_comparison_counts_nan_as_largest(direction: str) -> None:
    x = np.array([[2, NAN, INF, 0, -NAN, 2]] * 2, np.float32)
    expected = [3, 0, 5, 2, 1, 4] if direction == "LT" else [1, 4, 2, 0, 5, 3]
    found = positions(sort_by(f"compare(a, b), direction={direction}"), x)
    np.testing.assert_array_equal(found, [expected] * 2)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("LT", [[1, 2, 4, 0, 3, 5], [4, 3, 1, 5, 2, 0]]),
        ("GT", [[5, 3, 0, 4, 2, 1], [0, 2, 5, 1, 3, 4]]),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_the_total_order_has_signs_of_zero_and_nan(
    direction: str, expected: Any, dtype: str
) -> None:
    x = np.array(
        [[0.0, -NAN, -INF, 1, -0.0, NAN], [NAN, -0.0, 1, -INF, -NAN, 0.0]], np.float32
    ).astype(ml_dtypes.bfloat16 if dtype == "bf16" else np.float32)
    hlo = sort_by(f"compare(a, b), direction={direction}, type=TOTALORDER", dtype)
    np.testing.assert_array_equal(positions(hlo, x), expected)
    np.testing.assert_array_equal(runner(hlo, [np.zeros((2, 6), np.int32)])(x)[0], expected)


@pytest.mark.parametrize(
    "code",
    [
        "compare(a, b), direction=NE",
        "compare(a, one), direction=LT",
        "and(less, small)",
        "compare(i, b2), direction=LT",
        "or(less, more)",
    ],
)
def test_a_comparator_that_is_no_order_of_one_key_is_refused(code: str) -> None:
    helpers = """b2 = s32[] add(j, j)
  less = pred[] compare(a, b), direction=LT
  more = pred[] compare(i, j), direction=LT
  five = f32[] constant(5)
  small = pred[] compare(a, five), direction=LT
  """
    text = SORT.format(code=f"{helpers}ROOT c = pred[] {code}", dtype="f32", size=6)
    with pytest.raises(CompilerError, match=r"else than one key: sort s$"):
        legal_module(from_text(text))


def test_sorting_by_two_keys_is_refused() -> None:
    with pytest.raises(CompilerError, match="else than one key: sort sort"):
        assert_same(lambda x, y: lax.sort((x, y), num_keys=2), AWKWARD, AWKWARD)


def test_the_longest_axis_is_sorted_and_one_more_is_refused() -> None:
    x = np.random.default_rng(0).integers(0, 99, (1, 1025)).astype(np.float32)
    assert_same(lambda x: jnp.argsort(x, 1), x[:, 1:])
    with pytest.raises(CompilerError, match=r"sorts an axis of 1025, at most 1024: sort sort"):
        assert_same(lambda x: jnp.argsort(x, 1), x)
