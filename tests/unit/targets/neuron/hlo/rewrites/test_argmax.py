from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuronc.errors import CompilerError
from tests.hlo_programs import Pair, assert_same, from_text, legal_module, make_pair

NAN, INF = np.nan, np.inf
AWKWARD = np.array(
    [
        [1, NAN, 2, NAN, -0.0, 0.0, INF, -INF],
        [3, 1, 3, 3, 0, -0.0, 0, 1],
        [-INF] * 8,
        [INF, -INF, INF, -NAN, -1, -1, NAN, 2],
    ],
    np.float32,
)
FLOATS = [np.float32, ml_dtypes.bfloat16, np.float16]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, None])
def test_argmax_and_argmin_are_exact_with_ties_nan_and_infinities(dtype: Any, axis: Any) -> None:
    both = lambda x: (jnp.argmax(x, axis), jnp.argmin(x, axis))
    assert_same(both, AWKWARD.astype(dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8, np.bool_])
def test_argmax_of_integers_and_truth_values(dtype: Any) -> None:
    x = np.array([[3, 1, 3, 0], [0, 0, 0, 0], [1, 7, 7, 2]]).astype(dtype)
    assert_same(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 0)), x)


def test_extreme_integers_are_found() -> None:
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    x = np.array([[low, low], [low, high], [high, high]], np.int32)
    assert_same(lambda x: (jnp.argmax(x, 1), jnp.argmin(x, 1)), x)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 9), (9, 1), (2, 1, 3)])
def test_axes_of_one_element_are_no_special_case(shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert_same(lambda x: (jnp.argmax(x, 0), jnp.argmin(x, -1)), x)


@pytest.fixture(scope="module")
def any_argmax() -> Pair:
    x = np.zeros((3, 4, 5), np.float32)
    return make_pair(lambda x: [f(x, a) for f in (jnp.argmax, jnp.argmin) for a in (0, 1, 2)], x)


FEW = st.sampled_from([-INF, -1.0, -0.0, 0.0, 1e-40, 1.0, INF, NAN, -NAN])


@settings(deadline=None, max_examples=150, derandomize=True)
@given(x=arrays(np.float32, (3, 4, 5), elements=FEW | st.floats(width=32)))
def test_any_values_give_the_same_positions(any_argmax: Pair, x: Any) -> None:
    any_argmax.check(x)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("vocab", [32000, 49152])
def test_greedy_sampling_is_max_compare_select_and_min_only(dtype: Any, vocab: int) -> None:
    logits = np.random.default_rng(0).standard_normal((3, vocab)).astype(dtype)
    logits[0, [vocab - 1, 17]] = 99
    pair = assert_same(lambda x: jnp.argmax(x, -1), logits)
    arithmetic = {"maximum", "compare", "select", "minimum", "reduce"}
    assert pair.opcodes <= arithmetic | {"parameter", "constant", "iota", "broadcast"}


def test_argmax_inside_a_loop_is_rewritten_too() -> None:
    def strike_out(x: Any) -> Any:
        step = lambda _, x: x.at[jnp.argmax(x)].set(-1.0)
        return jax.lax.fori_loop(0, 3, step, x)

    pair = assert_same(strike_out, np.array([3, 9, 9, 1, 7], np.float32))
    assert "while" in pair.opcodes


# what torch-mlir makes of torch.argmax
TORCH = """HloModule m
body {{
  a = f32[] parameter(0)
  i = s64[] parameter(1)
  b = f32[] parameter(2)
  j = s64[] parameter(3)
  ge = pred[] compare(a, b), direction=GE
  v = f32[] select(ge, a, b)
  eq = pred[] compare(a, b), direction=EQ
  low = s64[] minimum(i, j)
  at = s64[] select(ge, i, j)
  p = s64[] select(eq, low, at)
  ROOT t = (f32[], s64[]) tuple(v, p)
}}
ENTRY e {{
  x = f32[3,5] parameter(0)
  n = s64[5] iota(), iota_dimension=0
  p = s64[3,5] broadcast(n), dimensions={{{dim}}}
  v0 = f32[] constant({start})
  p0 = s64[] constant({place})
  r = (f32[{size}], s64[{size}]) reduce(x, p, v0, p0), dimensions={{{axis}}}, to_apply=body
  ROOT o = s64[{size}] get-tuple-element(r), index=1
}}
"""
PLAIN = {"dim": 1, "start": "-inf", "place": 0, "axis": 1, "size": 3}


def test_the_form_of_torch_is_recognised() -> None:
    module = legal_module(from_text(TORCH.format(**PLAIN)))
    assert [i.opcode for i in module.computations[-1].instructions if i.opcode == "reduce"] == [
        "reduce",
        "reduce",
    ]
    assert module.computations[-1].instructions[-1].shape.element_type == 4  # s32


@pytest.mark.parametrize(
    "change",
    [{"start": "-1"}, {"start": "inf"}, {"place": 1}],
    ids=["low start", "other end", "start elsewhere"],
)
def test_a_reduction_that_starts_elsewhere_is_refused(change: dict[str, object]) -> None:
    hlo = from_text(TORCH.format(**{**PLAIN, **change}))
    with pytest.raises(CompilerError, match=r"several tensors at once: reduce r"):
        legal_module(hlo)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("minimum(i, j)", "maximum(i, j)"),  # the last of equal values
        ("direction=GE", "direction=LE"),  # the least value from minus infinity
        ("select(eq, low, at)", "select(eq, at, low)"),
        ("minimum(i, j)", "add(i, j)"),
        ("n = s64[5] iota(), iota_dimension=0", "n = s64[5] constant({0, 1, 2, 4, 3})"),
        ("tuple(v, p)", "tuple(a, p)"),
    ],
)
def test_a_reduction_that_is_not_argmax_is_refused(old: str, new: str) -> None:
    text = TORCH.format(**PLAIN)
    assert old in text
    with pytest.raises(CompilerError, match="several tensors at once"):
        legal_module(from_text(text.replace(old, new)))


def test_a_constant_of_positions_is_as_good_as_iota() -> None:
    text = TORCH.format(**PLAIN).replace("iota(), iota_dimension=0", "constant({0, 1, 2, 3, 4})")
    assert "tuple" not in {
        i.opcode for i in legal_module(from_text(text)).computations[-1].instructions
    }


def test_a_nan_that_only_wins_when_it_comes_last_of_all_is_refused() -> None:
    last_nan = """
  ge = pred[] compare(a, b), direction=GE
  n = pred[] compare(a, a), direction=NE
  m = pred[] compare(b, b), direction=EQ
  k = pred[] and(n, m)
  g = pred[] or(ge, k)"""
    text = TORCH.format(**PLAIN).replace("\n  ge = pred[] compare(a, b), direction=GE", last_nan)
    with pytest.raises(CompilerError, match="several tensors at once"):
        legal_module(from_text(text.replace("select(ge", "select(g")))
