import pytest

from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder

_GATHER = {
    "offset_dims": [1],
    "collapsed_slice_dims": [0],
    "start_index_map": [0],
    "index_vector_dim": 1,
}
_SCATTER = {
    "update_window_dims": [1],
    "inserted_window_dims": [0],
    "scatter_dims_to_operand_dims": [0],
    "index_vector_dim": 1,
}


def gather(rows: int, count: int, *, from_iota: bool = True) -> HloBuilder:
    """A table of ``rows`` positions, read at 0, 1, ... ``count`` - 1."""
    hlo = HloBuilder()
    table = hlo.parameter(f"f32[{rows},8]", "transformer.wpe.weight")
    if from_iota:
        counted = hlo.op("iota", f"u32[{count}]", dimensions=[0])
        counted = hlo.op("convert", f"s32[{count}]", counted)
        counted = hlo.op("broadcast", f"s32[2,{count}]", counted, dimensions=[1])
        indices = hlo.op("reshape", f"s32[2,{count},1]", counted)
    else:
        indices = hlo.parameter(f"s32[2,{count},1]")
    numbers = {**_GATHER, "offset_dims": [2], "index_vector_dim": 2}
    hlo.op(
        "gather",
        f"f32[2,{count},8]",
        table,
        indices,
        gather_dimension_numbers=numbers,
        gather_slice_sizes=[1, 8],
    )
    return hlo


def scatter(rows: int, count: int) -> HloBuilder:
    hlo = HloBuilder()
    target, update = hlo.parameter(f"f32[{rows},8]"), hlo.parameter(f"f32[{count},8]")
    counted = hlo.op("iota", f"s32[{count},1]", dimensions=[0])
    by = hlo.reducer("add", "f32")
    hlo.op(
        "scatter",
        f"f32[{rows},8]",
        target,
        counted,
        update,
        calls=[by],
        scatter_dimension_numbers=_SCATTER,
    )
    return hlo


def scatter_pairs(slots: int, counted_slots: int) -> HloBuilder:
    """A cache's slot and position together, as decode writes them."""
    hlo = HloBuilder()
    cache, update = hlo.parameter(f"f32[{slots},16]"), hlo.parameter(f"f32[{counted_slots}]")
    slot = hlo.op("iota", f"s32[{counted_slots},1]", dimensions=[0])
    position = hlo.parameter(f"s32[{counted_slots},1]")
    pair = hlo.op("concatenate", f"s32[{counted_slots},2]", slot, position, dimensions=[1])
    by = hlo.reducer("add", "f32")
    numbers = {
        "inserted_window_dims": [0, 1],
        "scatter_dims_to_operand_dims": [0, 1],
        "index_vector_dim": 1,
    }
    shape = f"f32[{slots},16]"
    fields = {"scatter_dimension_numbers": numbers}
    hlo.op("scatter", shape, cache, pair, update, calls=[by], **fields)
    return hlo


@pytest.mark.parametrize(
    ("rows", "count", "expected"), [(16, 16, []), (16, 8, []), (16, 17, ["EVRF056"])]
)
def test_a_gather_stays_inside_its_table(rows: int, count: int, expected: list[str]) -> None:
    assert gather(rows, count).codes() == expected
    assert gather(rows, count, from_iota=False).codes() == []


def test_a_position_table_that_is_too_short_is_told_with_its_numbers() -> None:
    (finding,) = gather(16, 17).check(weight_names=["transformer.wpe.weight"])
    assert "counts 17 positions over a dimension of 16" in finding.message
    assert finding.place == "transformer.wpe"
    assert "--max-length" in finding.remedy


@pytest.mark.parametrize(("rows", "count", "expected"), [(3, 3, []), (3, 4, ["EVRF031"])])
def test_a_scatter_stays_inside_its_tensor(rows: int, count: int, expected: list[str]) -> None:
    assert scatter(rows, count).codes() == expected


@pytest.mark.parametrize(("slots", "count", "expected"), [(4, 4, []), (2, 4, ["EVRF031"])])
def test_each_coordinate_is_held_against_its_own_dimension(
    slots: int, count: int, expected: list[str]
) -> None:
    assert scatter_pairs(slots, count).codes() == expected
