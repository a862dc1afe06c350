import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

NONE = ["--implicit-integer-downcast=none"]
_DOT = {"lhs_contracting_dimensions": [1], "rhs_contracting_dimensions": [0]}
_ROWS = {
    "update_window_dims": [1],
    "inserted_window_dims": [0],
    "scatter_dims_to_operand_dims": [0],
    "index_vector_dim": 1,
}


def dot(dtype: str) -> HloBuilder:
    hlo = HloBuilder()
    x = hlo.parameter(f"{dtype}[4,4]")
    hlo.op("dot", f"{dtype}[4,4]", x, x, dot_dimension_numbers=_DOT)
    return hlo


def scatter(dtype: str, kind: str) -> HloBuilder:
    hlo = HloBuilder()
    if kind == "assign":
        by = hlo.body()
        by.parameter(dtype)
        by.parameter(dtype)
    else:
        by = hlo.reducer(kind, dtype)
    target, rows = hlo.parameter(f"{dtype}[4,2]"), hlo.parameter("s32[3,1]")
    update = hlo.parameter(f"{dtype}[3,2]")
    hlo.op(
        "scatter",
        f"{dtype}[4,2]",
        target,
        rows,
        update,
        calls=[by],
        scatter_dimension_numbers=_ROWS,
    )
    return hlo


def unary(opcode: str, dtype: str) -> HloBuilder:
    hlo = HloBuilder()
    by = hlo.reducer("add", dtype)
    hlo.op(opcode, f"{dtype}[4]", hlo.parameter(f"{dtype}[4]"), calls=[by], dimensions=[0])
    return hlo


@pytest.mark.parametrize(
    ("dtype", "target", "forbidden", "permitted"),
    [
        ("f32", "trn2", [], []),
        ("u8", "trn2", [], []),
        ("s32", "trn2", ["EVRF035"], ["evrf035"]),
        ("u32", "trn3", ["EVRF035"], ["evrf035"]),
        ("s32", "trn1", ["evrf035"], ["evrf035"]),
        ("s32", "inf2", ["evrf035"], ["evrf035"]),
        ("s64", "trn1", ["EVRF035"], ["evrf035"]),
        ("u64", "trn2", ["EVRF035"], ["evrf035"]),
    ],
)
def test_integer_dot(dtype: str, target: str, forbidden: list[str], permitted: list[str]) -> None:
    assert dot(dtype).codes(target, compiler_args=NONE) == forbidden
    assert dot(dtype).codes(target) == permitted


@pytest.mark.parametrize(
    ("dtype", "kind", "forbidden", "permitted"),
    [
        ("f32", "add", [], []),
        ("s32", "assign", [], []),
        ("pred", "assign", [], []),
        ("s32", "add", ["EVRF060"], ["evrf060"]),
        ("u64", "maximum", ["EVRF060"], ["evrf060"]),
        ("u8", "add", ["EVRF016"], ["EVRF016"]),
        ("pred", "or", ["EVRF016"], ["EVRF016"]),
        ("s32", "xor", ["EVRF016"], ["EVRF016"]),
    ],
)
def test_integer_scatter(dtype: str, kind: str, forbidden: list[str], permitted: list[str]) -> None:
    assert scatter(dtype, kind).codes(compiler_args=NONE) == forbidden
    assert scatter(dtype, kind).codes() == permitted


@pytest.mark.parametrize(
    ("opcode", "flag", "code"),
    [("all-reduce", "all_reduce", "EVRF061"), ("reduce-scatter", "reduce_scatter", "EVRF063")],
)
def test_integer_collectives(opcode: str, flag: str, code: str) -> None:
    assert unary(opcode, "bf16").codes(compiler_args=NONE) == []
    assert unary(opcode, "s32").codes(compiler_args=NONE) == [code]
    only_this = [f"--implicit-integer-downcast={flag}"]
    assert unary(opcode, "s32").codes(compiler_args=only_this) == [code.lower()]
    only_another = ["--implicit-integer-downcast", "dot,pow"]
    assert unary(opcode, "s32").codes(compiler_args=only_another) == [code]


@pytest.mark.parametrize(
    ("dtype", "forbidden", "permitted"),
    [("f32", [], []), ("s32", [], []), ("s64", ["EVRF062"], ["evrf062"])],
)
def test_integer_power(dtype: str, forbidden: list[str], permitted: list[str]) -> None:
    hlo = HloBuilder()
    x = hlo.parameter(f"{dtype}[4]")
    hlo.op("power", f"{dtype}[4]", x, x)
    assert hlo.codes(compiler_args=NONE) == forbidden
    assert hlo.codes() == permitted


@pytest.mark.parametrize(
    ("dtype", "expected"), [("s32", []), ("u32", []), ("s16", ["EVRF022"]), ("u8", ["EVRF022"])]
)
def test_arithmetic_shift_takes_32_bits(dtype: str, expected: list[str]) -> None:
    hlo = HloBuilder()
    x, by = hlo.parameter(f"{dtype}[4]"), hlo.parameter("s16[4]")
    hlo.op("shift-right-arithmetic", f"{dtype}[4]", x, by)
    assert hlo.codes() == expected


@pytest.mark.parametrize(
    ("value", "target", "flags", "expected"),
    [
        (2**32 - 1, "trn2", [], []),
        (2**32, "trn2", [], ["ESFH002"]),
        (2**32, "trn2", ["--native-int64=enabled"], []),
        (2**32, "trn2", ["--native-int64", "disabled"], ["ESFH002"]),
        (2**32, "trn1", ["--native-int64=enabled"], ["ESFH002"]),
    ],
)
def test_wide_constants(value: int, target: str, flags: list[str], expected: list[str]) -> None:
    hlo = HloBuilder()
    constant = hlo.op("constant", "u64[2]")
    constant.literal.shape.CopyFrom(constant.shape)
    constant.literal.u64s.extend([1, value])
    assert hlo.codes(target, compiler_args=flags) == expected
