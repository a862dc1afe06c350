from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax import lax

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.schema import MODERN
from tests.hlo_programs import Pair, assert_same, from_text, legal_module, make_pair, runner

NAN, INF = np.nan, np.inf
AWKWARD = np.array(
    [
        [1, NAN, 2, -NAN, -0.0, 0.0, INF, -INF, 2],
        [3, 1, 3, 3, 0, -0.0, 0, 1, -0.0],
        [-INF, -NAN, -INF, NAN, -INF, -NAN, NAN, -INF, -INF],
    ],
    np.float32,
)
FLOATS = [np.float32, ml_dtypes.bfloat16, np.float16]


def lower(function: Callable[..., Any], *inputs: Any) -> bytes:
    computation: Any = jax.jit(function).lower(*inputs).compiler_ir("hlo")
    proto: bytes = computation.as_serialized_hlo_module_proto()
    return proto


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("k", [0, 1, 4, 9])
def test_top_k_is_exact_with_ties_signs_of_zero_and_nan(dtype: Any, k: int) -> None:
    assert_same(lambda x: lax.top_k(x, k), AWKWARD.astype(dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8])
def test_top_k_of_integers(dtype: Any) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.array([[low, 3, high, 3, low], [low] * 5], dtype)
    assert_same(lambda x: lax.top_k(x, 4), x)


def test_top_k_along_another_axis() -> None:
    assert_same(lambda x: lax.top_k(x, 2, axis=0), AWKWARD)


def test_top_k_of_a_vocabulary() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 32000)).astype(np.float32).round(1)
    assert_same(lambda x: lax.top_k(x, 8), logits)


@pytest.mark.parametrize("k", [64, 65])
def test_more_than_64_of_up_to_1024_are_sorted(k: int) -> None:
    x = np.random.default_rng(0).integers(0, 30, (2, 100)).astype(np.float32)
    pair = assert_same(lambda x: lax.top_k(x, k), x)
    assert ("concatenate" in pair.opcodes) == (k == 64)


def test_more_than_64_of_a_vocabulary_are_refused() -> None:
    x = np.zeros((1, 2000), np.float32)
    with pytest.raises(CompilerError, match="first 65 of 2000: topk top_k"):
        assert_same(lambda x: lax.top_k(x, 65), x)


@pytest.fixture(scope="module")
def any_top_k() -> Pair:
    return make_pair(lambda x: lax.top_k(x, 5), np.zeros((4, 6), np.float32))


FEW = st.sampled_from([-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN, -NAN])


@settings(deadline=None, max_examples=150, derandomize=True)
@given(x=arrays(np.float32, (4, 6), elements=FEW | st.floats(width=32, allow_subnormal=False)))
def test_any_values_give_the_same_top_k(any_top_k: Pair, x: Any) -> None:
    any_top_k.check(x)


def test_the_least_come_first_when_the_largest_are_not_asked_for() -> None:
    module = MODERN.FromString(lower(lambda x: lax.top_k(x, 9), AWKWARD))
    (top,) = (i for i in module.computations[-1].instructions if i.opcode == "topk")
    top.largest = False
    legal = legal_module(module.SerializeToString(), num_outputs=2).SerializeToString()
    outputs = [AWKWARD, np.zeros((3, 9), np.int32)]
    _, found = runner(legal, outputs)(AWKWARD)
    np.testing.assert_array_equal(
        found,
        [[3, 7, 4, 5, 0, 2, 8, 6, 1], [5, 8, 4, 6, 1, 7, 0, 2, 3], [1, 5, 0, 2, 4, 7, 8, 3, 6]],
    )


def test_the_custom_call_of_xla_is_a_top_k_too() -> None:
    module = MODERN.FromString(lower(lambda x: lax.top_k(x, 3), AWKWARD))
    (top,) = (i for i in module.computations[-1].instructions if i.opcode == "topk")
    top.opcode, top.custom_call_target = "custom-call", "TopK"
    top.ClearField("k")
    top.ClearField("largest")
    legal = legal_module(module.SerializeToString(), num_outputs=2)
    outputs = [AWKWARD[:, :3], np.zeros((3, 3), np.int32)]
    found = runner(legal.SerializeToString(), outputs)(AWKWARD)
    for one, other in zip(found, lax.top_k(AWKWARD, 3), strict=True):
        np.testing.assert_array_equal(one, other)


# what torch-mlir makes of torch.topk
TORCH = """HloModule m
by {{
  a = {dtype}[] parameter(0)
  b = {dtype}[] parameter(1)
  i = s64[] parameter(2)
  j = s64[] parameter(3)
  ROOT c = pred[] compare(a, b), direction={direction}
}}
ENTRY e {{
  x = {dtype}[2,{size}] parameter(0)
  n = s64[{size}] iota(), iota_dimension=0
  p = s64[2,{size}] broadcast(n), dimensions={{1}}
  s = ({dtype}[2,{size}], s64[2,{size}]) sort(x, p), dimensions={{1}}, to_apply=by
  v = {dtype}[2,{size}] get-tuple-element(s), index=0
  q = s64[2,{size}] get-tuple-element(s), index=1
  v0 = {dtype}[2,3] slice(v), slice={{[0:2], [0:3]}}
  q0 = s64[2,{last}] slice(q), slice={{[0:2], [{first}:{end}]}}
  ROOT o = ({dtype}[2,3], s64[2,{last}]) tuple(v0, q0)
}}
"""


def torch_top_k(
    *, direction: str = "GT", size: int = 40000, last: int = 2, first: int = 0, dtype: str = "f32"
) -> bytes:
    return from_text(
        TORCH.format(
            direction=direction, size=size, last=last, first=first, end=first + last, dtype=dtype
        )
    )


@pytest.mark.parametrize(("direction", "sign"), [("GT", -1), ("LT", 1)])
def test_a_sort_that_is_read_from_its_start_is_a_top_k(direction: str, sign: int) -> None:
    x = np.random.default_rng(0).integers(0, 999, (2, 40000)).astype(np.float32)
    legal = legal_module(torch_top_k(direction=direction), num_outputs=2)
    outputs = [x[:, :3], np.zeros((2, 2), np.int32)]
    values, places = runner(legal.SerializeToString(), outputs)(x)
    order = np.argsort(sign * x, 1, kind="stable")
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, 1)[:, :3])
    np.testing.assert_array_equal(places, order[:, :2])


def test_a_sort_that_is_read_elsewhere_is_not_a_top_k() -> None:
    with pytest.raises(CompilerError, match="sorts an axis of 40000"):
        legal_module(torch_top_k(first=1), num_outputs=2)
    with pytest.raises(CompilerError, match="sorts an axis of 40000"):
        legal_module(torch_top_k(last=65), num_outputs=2)
    x = np.random.default_rng(0).integers(0, 9, (2, 20)).astype(np.float32)
    legal = legal_module(torch_top_k(size=20, first=4), num_outputs=2).SerializeToString()
    _, places = runner(legal, [x[:, :3], np.zeros((2, 2), np.int32)])(x)
    np.testing.assert_array_equal(places, np.argsort(-x, 1, kind="stable")[:, 4:6])


def test_operands_go_along_with_the_first_of_a_sort() -> None:
    x, y = AWKWARD, AWKWARD[::-1].astype(ml_dtypes.bfloat16)
    first = lambda x, y: [part[:, :4] for part in lax.sort((x, y), num_keys=1)]
    pair = assert_same(first, x, y)
    assert "concatenate" in pair.opcodes


def test_top_k_of_gathered_rows_stays_in_range() -> None:
    table = np.arange(40, dtype=np.float32).reshape(8, 5)
    x = np.full((2, 8), NAN, np.float32)
    assert_same(lambda x, t: jnp.take(t, lax.top_k(x, 3)[1], axis=0), x, table)
