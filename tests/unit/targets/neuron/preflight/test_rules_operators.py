from typing import Any

import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder


@pytest.mark.parametrize(
    "opcode",
    [
        "triangular-solve",
        "cholesky",
        "fft",
        "topk",
        "conditional",
        "reduce-precision",
        "infeed",
        "outfeed",
    ],
)
def test_operators_named_as_unsupported_are_refused(opcode: str) -> None:
    hlo = HloBuilder()
    hlo.op(opcode, "f32[4]", hlo.parameter("f32[4]"))
    assert hlo.codes() == ["EVRF001"]


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [("erf", []), ("logistic", []), ("all-to-all", []), ("popcnt", ["evrf001"])],
)
def test_an_operator_on_no_list_is_a_doubt(opcode: str, expected: list[str]) -> None:
    hlo = HloBuilder()
    hlo.op(opcode, "f32[4]", hlo.parameter("f32[4]"))
    assert hlo.codes() == expected


def test_a_reduce_of_several_tensors_is_refused() -> None:
    hlo = HloBuilder()
    x, zero = hlo.parameter("f32[4]"), hlo.parameter("f32")
    hlo.op("reduce", "(f32,f32)", x, x, zero, zero, dimensions=[0])
    assert hlo.codes() == ["EVRF001"]


@pytest.mark.parametrize(("kind", "expected"), [("add", []), ("xor", ["evrf001"])])
def test_a_reduce_by_another_operation_is_a_doubt(kind: str, expected: list[str]) -> None:
    hlo = HloBuilder()
    by = hlo.reducer(kind, "s32")
    x, zero = hlo.parameter("s32[4]"), hlo.parameter("s32")
    hlo.op("reduce", "s32", x, zero, dimensions=[0], calls=[by])
    assert hlo.codes() == expected


def sort(direction: str | None) -> HloBuilder:
    hlo = HloBuilder()
    by = hlo.body()
    one, other = by.parameter("f32"), by.parameter("f32")
    if direction is None:
        by.op("convert", "pred", one)
    else:
        by.op("compare", "pred", one, other, comparison_direction=direction)
    hlo.op("sort", "f32[4]", hlo.parameter("f32[4]"), calls=[by], dimensions=[0])
    return hlo


@pytest.mark.parametrize(
    ("direction", "target", "expected"),
    [
        ("LT", "trn1", []),
        ("GE", "inf2", []),
        ("EQ", "trn1", ["EVRF001"]),
        (None, "trn1", ["EVRF001"]),
        ("LT", "trn2", ["EVRF029"]),
        ("GT", "trn3", ["EVRF029"]),
    ],
)
def test_sort_needs_a_plain_order_and_an_early_target(
    direction: str | None, target: str, expected: list[str]
) -> None:
    assert sort(direction).codes(target) == expected


def loop(
    *,
    bound: str = "constant",
    start: str = "constant",
    step: str = "constant",
    compared: int = 0,
    advanced: int = 0,
    **fields: Any,
) -> HloBuilder:
    """``while (state[0] < bound) state[0] += step`` over a counter and a limit."""
    state = "(s32,s32)"
    hlo = HloBuilder()
    condition, body = hlo.body(), hlo.body()
    value = condition.parameter(state)
    counter = condition.op("get-tuple-element", "s32", value, tuple_index=compared)
    limit = (
        condition.op("constant", "s32")
        if bound == "constant"
        else condition.op("get-tuple-element", "s32", value, tuple_index=1)
    )
    condition.op("compare", "pred", counter, limit, comparison_direction="LT")
    value = body.parameter(state)
    counter = body.op("get-tuple-element", "s32", value, tuple_index=advanced)
    limit = body.op("get-tuple-element", "s32", value, tuple_index=1)
    more = body.op("constant", "s32") if step == "constant" else limit
    body.op("tuple", state, body.op("add", "s32", counter, more), limit)
    first = hlo.op("constant", "s32") if start == "constant" else hlo.parameter("s32")
    initial = hlo.op("tuple", state, first, hlo.parameter("s32"))
    hlo.op("while", state, initial, calls=[body, condition], **fields)
    return hlo


def test_a_loop_that_counts_from_constant_to_constant_passes() -> None:
    assert loop().codes() == []


@pytest.mark.parametrize(
    "asked",
    [{"bound": "data"}, {"start": "data"}, {"step": "data"}, {"compared": 1}, {"advanced": 1}],
)
def test_a_loop_that_depends_on_data_is_refused(asked: dict[str, Any]) -> None:
    assert loop(**asked).codes() == ["EVRF001"]


def test_a_trip_count_that_xla_noted_is_believed() -> None:
    noted = b'{"known_trip_count":{"n":"8"}}'
    assert loop(bound="data", backend_config=noted).codes() == []
    assert loop(bound="data", backend_config=b"{").codes() == ["EVRF001"]
