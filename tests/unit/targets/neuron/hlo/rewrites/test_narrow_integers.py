from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuronc.errors import CompilerError
from tests.hlo_programs import Pair, assert_same, from_text, legal_module, make_pair

S32, S64, U32 = 4, 5, 8  # xla.PrimitiveType
X = np.arange(20, dtype=np.float32).reshape(4, 5)


def of_one(body: str) -> bytes:
    return from_text(f"HloModule m\nENTRY e {{\n  {body}\n}}\n")


@pytest.fixture(scope="module")
def positions() -> Pair:
    def arithmetic(i: Any, j: Any) -> Any:
        rows = jnp.arange(6)[:, None] * 3 + i
        return (
            rows // jnp.maximum(j, 1) - (-i) % 7,
            jnp.where(i < 0, i + 40, i).astype(jnp.float32),
            jnp.clip(i, -3, j).astype(jnp.int16),
            jnp.cumsum(i),
            jnp.sum(rows > j, 1, dtype=jnp.int64),
            (i << 2) ^ (j >> 1),
        )

    one = np.ones(8, np.int64)
    return make_pair(arithmetic, one, one, x64=True)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(both=arrays(np.int64, (2, 8), elements=st.integers(-(2**20), 2**20)))
def test_arithmetic_of_positions_is_the_same_in_32_bits(positions: Pair, both: Any) -> None:
    positions.check(*both)


def test_gather_and_scatter_take_32_bit_indices() -> None:
    def moved(x: Any, rows: Any, columns: Any) -> Any:
        return (
            jnp.take(x, rows, axis=0),
            x[rows[:, None], columns[:3]],
            x.at[rows, columns[:3, 0]].add(1.5),
            jax.lax.dynamic_slice(x, (rows[0], columns[0, 0]), (2, 2)),
            jax.lax.dynamic_update_slice(x, x[:1, :2], (rows[2], columns[0, 0])),
        )

    rows = np.array([2, 0, -1], np.int64)
    columns = np.array([[0, 4], [3, 3], [1, 0], [2, 1]], np.int64)
    pair = assert_same(moved, X, rows, columns, x64=True)
    assert {"gather", "scatter", "dynamic-slice"} <= pair.opcodes


def test_bodies_of_reductions_and_comparators_are_narrowed() -> None:
    x = np.array([[3, -1, 3, 7], [0, 0, -9, 2]], np.int64)

    def reduced(x: Any) -> Any:
        folds = [f(x, 1) for f in (jnp.max, jnp.min, jnp.sum, jnp.prod, jnp.argmax, jnp.argmin)]
        return (*folds, jnp.sort(x, 1), jax.lax.top_k(x, 2))

    assert_same(reduced, x, x64=True)


def test_unsigned_integers_are_narrowed() -> None:
    x = np.array([[3, 1, 3, 2**31], [0, 2**32 - 1, 9, 2]], np.uint64)

    def reduced(x: Any) -> Any:
        return [(f(x, 1) >> 1).astype(np.int32) for f in (jnp.max, jnp.min)], jnp.argmax(x, 1)

    assert_same(reduced, x, x64=True)


def test_loops_count_in_32_bits() -> None:
    def count(x: Any) -> Any:
        return jax.lax.fori_loop(0, 5, lambda i, total: total + i * x, jnp.zeros(3, jnp.int64))

    assert_same(count, np.array([1, -2, 3], np.int64), x64=True)


def test_converts_that_do_nothing_go() -> None:
    hlo = of_one("""x = s64[3] parameter(0)
  y = s32[3] convert(x)
  z = s64[3] convert(y)
  ROOT w = s64[3] negate(z)""")
    instructions = legal_module(hlo).computations[-1].instructions
    assert [i.opcode for i in instructions] == ["parameter", "negate"]
    assert {i.shape.element_type for i in instructions} == {S32}


def test_a_program_that_is_one_convert_becomes_a_copy() -> None:
    instructions = (
        legal_module(of_one("x = s32[3] parameter(0)\n  ROOT y = s64[3] convert(x)"))
        .computations[-1]
        .instructions
    )
    assert [i.opcode for i in instructions] == ["parameter", "copy"]


def test_the_interface_is_narrowed_with_the_rest() -> None:
    module = legal_module(of_one("x = u64[3] parameter(0)\n  ROOT y = s64[3] convert(x)"))
    entry = module.computations[-1]
    for shape in (module.host_program_shape, entry.program_shape):
        assert [s.element_type for s in shape.parameters] == [U32]
        assert shape.result.element_type == S32


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**40, 2**63 - 1, -(2**63)])
def test_a_constant_out_of_range_is_refused_by_name_and_value(value: int) -> None:
    hlo = of_one(f"""x = s64[] parameter(0)
  big = s64[] constant({value})
  ROOT y = s64[] add(x, big)""")
    with pytest.raises(CompilerError, match=rf"constant big is {value}, which does not fit"):
        legal_module(hlo)


def test_constants_at_the_ends_of_the_range_stay() -> None:
    hlo = of_one(f"""x = s64[2] parameter(0)
  c = s64[2] constant({{{2**31 - 1}, {-(2**31)}}})
  ROOT y = s64[2] add(x, c)""")
    literal = legal_module(hlo).computations[-1].instructions[1].literal
    assert (list(literal.s32s), list(literal.s64s)) == ([2**31 - 1, -(2**31)], [])


STARTS = """HloModule m
body {{
  a = s64[] parameter(0)
  b = s64[] parameter(1)
  ROOT c = s64[] {opcode}(a, b)
}}
ENTRY e {{
  x = s64[4] parameter(0)
  start = s64[] constant({value})
  spread = s64[4] broadcast(start), dimensions={{}}
  ROOT y = {result}
}}
"""
LOW, HIGH = -(2**63), 2**63 - 1
REDUCE = "s64[] reduce(x, start), dimensions={0}, to_apply=body"
WINDOW = "s64[4] reduce-window(x, start), window={size=2 pad=1_0}, to_apply=body"


@pytest.mark.parametrize(
    ("opcode", "value", "result", "narrow"),
    [
        ("maximum", LOW, REDUCE, -(2**31)),
        ("minimum", HIGH, REDUCE, 2**31 - 1),
        ("maximum", LOW, WINDOW, -(2**31)),
        ("maximum", LOW, "s64[4] maximum(x, spread)", -(2**31)),
        ("maximum", LOW, "s64[4] clamp(spread, x, x)", -(2**31)),
        ("minimum", HIGH, "s64[4] clamp(x, x, spread)", 2**31 - 1),
    ],
)
def test_extremes_that_a_maximum_or_minimum_starts_from_are_saturated(
    opcode: str, value: int, result: str, narrow: int
) -> None:
    module = legal_module(from_text(STARTS.format(opcode=opcode, value=value, result=result)))
    (constant,) = (i for i in module.computations[-1].instructions if i.opcode == "constant")
    assert list(constant.literal.s32s) == [narrow]


@pytest.mark.parametrize(
    ("opcode", "value", "result"),
    [
        ("maximum", HIGH, REDUCE),
        ("minimum", LOW, REDUCE),
        ("add", LOW, REDUCE),
        ("maximum", LOW + 1, REDUCE),
        ("maximum", LOW, "s64[] reduce(spread, start), dimensions={0}, to_apply=body"),
        ("maximum", LOW, "s64[4] minimum(x, spread)"),
        ("maximum", LOW, "s64[4] clamp(x, x, spread)"),
        ("maximum", LOW, "(s64[4], s64[]) tuple(x, start)"),
        ("maximum", LOW, "pred[4] compare(x, spread), direction=GT"),
    ],
)
def test_extremes_that_anything_else_reads_are_refused(
    opcode: str, value: int, result: str
) -> None:
    hlo = from_text(STARTS.format(opcode=opcode, value=value, result=result))
    with pytest.raises(CompilerError, match=f"constant start is {value}, which does not fit"):
        legal_module(hlo, num_outputs=2)


@pytest.mark.parametrize(
    "body",
    [
        "x = s64[2] parameter(0)\n  ROOT y = s64[2] shift-right-logical(x, x)",
        "x = u64[2] parameter(0)\n  ROOT y = u64[2] not(x)",
        "x = s64[2] parameter(0)\n  ROOT y = s64[2] count-leading-zeros(x)",
        "x = s64[2] parameter(0)\n  ROOT y = s64[2] popcnt(x)",
        "x = s64[2] parameter(0)\n  ROOT y = s32[2,2] bitcast-convert(x)",
        "x = f64[2] parameter(0)\n  ROOT y = s64[2] bitcast-convert(x)",
    ],
)
def test_operators_on_64_bits_themselves_are_refused(body: str) -> None:
    with pytest.raises(CompilerError, match=r"y means something else in 32 bits than in [su]64"):
        legal_module(of_one(body))


def test_other_wide_types_are_still_refused() -> None:
    with pytest.raises(CompilerError, match="a tensor of f64"):
        legal_module(of_one("x = f64[2] parameter(0)\n  ROOT y = f64[2] negate(x)"))
