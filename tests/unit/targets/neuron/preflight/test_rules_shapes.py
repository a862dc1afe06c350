from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.preflight.check import check_program
from tests.unit.targets.neuron.preflight.hlo_builder import HloBuilder, set_shape

_ROWS = {
    "offset_dims": [1],
    "collapsed_slice_dims": [0],
    "start_index_map": [0],
    "index_vector_dim": 1,
}
_INTO_ROWS = {
    "update_window_dims": [1],
    "inserted_window_dims": [0],
    "scatter_dims_to_operand_dims": [0],
    "index_vector_dim": 1,
}
_MATMUL = {"lhs_contracting_dimensions": [1], "rhs_contracting_dimensions": [0]}
_BATCHED = {
    "lhs_batch_dimensions": [0],
    "rhs_batch_dimensions": [0],
    "lhs_contracting_dimensions": [2],
    "rhs_contracting_dimensions": [1],
}
_CUT = {"start": 1, "limit": 6, "stride": 2}
_SIDE = {"edge_padding_low": 1, "edge_padding_high": -2, "interior_padding": 1}
_GROUPS = {"replica_groups": [{"replica_ids": [0, 1]}], "dimensions": [1]}

# opcode, operands, other fields, the right result, wrong results
CASES: list[tuple[str, list[str], dict[str, Any], str, list[str]]] = [
    ("negate", ["f32[2,3]"], {}, "f32[2,3]", ["f32[3,2]", "s32[2,3]", "f32[6]"]),
    ("convert", ["f32[2,3]"], {}, "s32[2,3]", ["s32[3,2]"]),
    ("add", ["bf16[4]", "f32[4]"], {}, "f32[4]", ["f32[5]", "s32[4]", "f32"]),
    ("compare", ["s32[4]", "s32[4]"], {}, "pred[4]", ["s32[4]", "pred[3]"]),
    ("select", ["pred[4]", "f32[4]", "f32[4]"], {}, "f32[4]", ["f32[1]", "pred[4]"]),
    ("select", ["pred", "f32[4]", "f32[4]"], {}, "f32[4]", ["f32"]),
    ("clamp", ["s32", "s32[4]", "s32[4]"], {}, "s32[4]", ["s32"]),
    ("broadcast", ["f32[3]"], {"dimensions": [1]}, "f32[2,3]", ["f32[3,2]", "f32[2]", "s32[2,3]"]),
    ("reshape", ["f32[2,3]"], {}, "f32[3,2]", ["f32[5]", "s32[6]"]),
    ("transpose", ["f32[2,3,4]"], {"dimensions": [2, 0, 1]}, "f32[4,2,3]", ["f32[3,4,2]"]),
    ("slice", ["f32[8]"], {"slice_dimensions": [_CUT]}, "f32[3]", ["f32[2]", "f32[5]"]),
    ("concatenate", ["f32[2,3]", "f32[2,1]"], {"dimensions": [1]}, "f32[2,4]", ["f32[4,3]"]),
    ("pad", ["f32[4]", "f32"], {"padding_config": {"dimensions": [_SIDE]}}, "f32[6]", ["f32[3]"]),
    ("iota", [], {"dimensions": [1]}, "s32[2,3]", ["s32[2]", "s32"]),
    ("dynamic-slice", ["f32[8]", "s32"], {"dynamic_slice_sizes": [3]}, "f32[3]", ["f32[8]"]),
    ("dynamic-update-slice", ["f32[8]", "f32[3]", "s32"], {}, "f32[8]", ["f32[3]"]),
    (
        "dot",
        ["f32[2,3]", "f32[3,4]"],
        {"dot_dimension_numbers": _MATMUL},
        "bf16[2,4]",
        ["f32[4,2]", "f32[2,3]"],
    ),
    (
        "dot",
        ["f32[5,2,3]", "f32[5,3,4]"],
        {"dot_dimension_numbers": _BATCHED},
        "f32[5,2,4]",
        ["f32[2,4]"],
    ),
    ("reduce", ["f32[2,3]", "f32"], {"dimensions": [1]}, "f32[2]", ["f32[3]", "f32", "s32[2]"]),
    (
        "gather",
        ["f32[9,4]", "s32[5,1]"],
        {"gather_dimension_numbers": _ROWS, "gather_slice_sizes": [1, 4]},
        "f32[5,4]",
        ["f32[9,4]", "s32[5,4]", "f32[4,5]"],
    ),
    (
        "scatter",
        ["f32[9,4]", "s32[5,1]", "f32[5,4]"],
        {"scatter_dimension_numbers": _INTO_ROWS},
        "f32[9,4]",
        ["f32[5,4]", "s32[9,4]"],
    ),
    ("all-reduce", ["f32[2]"], {}, "f32[2]", ["f32[4]"]),
    ("all-reduce", ["f32[2]", "f32[3]"], {}, "(f32[2],f32[3])", ["(f32[3],f32[2])"]),
    ("all-gather", ["f32[2,3]"], _GROUPS, "f32[2,6]", ["f32[4,3]", "f32[2,3]"]),
    ("reduce-scatter", ["f32[2,6]"], _GROUPS, "f32[2,3]", ["f32[1,6]", "f32[2,6]"]),
    ("tuple", ["f32[2]", "s32"], {}, "(f32[2],s32)", ["(s32,f32[2])", "(f32[2])"]),
    ("get-tuple-element", ["(f32[2],s32)"], {"tuple_index": 1}, "s32", ["f32[2]"]),
]


def codes(opcode: str, operands: list[str], fields: dict[str, Any], result: str) -> list[str]:
    hlo = HloBuilder()
    hlo.op(opcode, result, *[hlo.parameter(shape) for shape in operands], **fields)
    return hlo.codes()


@pytest.mark.parametrize(("opcode", "operands", "fields", "right", "wrong"), CASES)
def test_a_result_follows_from_its_operands(
    opcode: str, operands: list[str], fields: dict[str, Any], right: str, wrong: list[str]
) -> None:
    assert codes(opcode, operands, fields, right) == []
    for shape in wrong:
        assert codes(opcode, operands, fields, shape) == ["EVRF064"], shape


@pytest.mark.parametrize(
    ("opcode", "operands", "fields", "result"),
    [
        ("add", ["f32[4]", "f32[3]"], {}, "f32[4]"),
        ("add", ["s32[4]", "s64[4]"], {}, "s32[4]"),
        ("select", ["s32[4]", "f32[4]", "f32[4]"], {}, "f32[4]"),
        ("broadcast", ["f32[3]"], {"dimensions": [7]}, "f32[2,3]"),
        ("broadcast", ["f32[3]"], {"dimensions": [-1]}, "f32[2,3]"),
        ("broadcast", ["f32[3,3]"], {"dimensions": [1, 1]}, "f32[2,3]"),
        ("transpose", ["f32[2,3]"], {"dimensions": [0, 0]}, "f32[2,2]"),
        ("slice", ["f32[8]"], {"slice_dimensions": [{"limit": 9, "stride": 1}]}, "f32[9]"),
        ("slice", ["f32[8]"], {"slice_dimensions": [{"limit": 8}]}, "f32[8]"),
        ("concatenate", ["f32[2,3]", "f32[4,3]"], {"dimensions": [1]}, "f32[2,6]"),
        ("concatenate", ["f32[2]"], {}, "f32[2]"),
        ("dynamic-slice", ["f32[8]", "s32", "s32"], {"dynamic_slice_sizes": [3]}, "f32[3]"),
        ("dynamic-slice", ["f32[8]", "s32"], {"dynamic_slice_sizes": [9]}, "f32[9]"),
        ("dynamic-update-slice", ["f32[8]", "f32[9]", "s32"], {}, "f32[8]"),
        ("dot", ["f32[2,3]", "f32[4,4]"], {"dot_dimension_numbers": _MATMUL}, "f32[2,4]"),
        ("reduce", ["f32[2,3]", "f32[1]"], {"dimensions": [1]}, "f32[2]"),
        ("reduce", ["f32[2,3]", "f32"], {"dimensions": [2]}, "f32[2,3]"),
        (
            "gather",
            ["f32[9,4]", "s32[5,2]"],
            {"gather_dimension_numbers": _ROWS, "gather_slice_sizes": [1, 4]},
            "f32[5,4]",
        ),
        (
            "gather",
            ["f32[9,4]", "s32[5,1]"],
            {"gather_dimension_numbers": _ROWS, "gather_slice_sizes": [1, 5]},
            "f32[5,5]",
        ),
        (
            "gather",
            ["f32[9,4]", "s32[5,1]"],
            {
                "gather_dimension_numbers": {**_ROWS, "offset_dims": [2]},
                "gather_slice_sizes": [1, 4],
            },
            "f32[5,4]",
        ),
        (
            "scatter",
            ["f32[9,4]", "s32[5,1]", "f32[6,4]"],
            {"scatter_dimension_numbers": _INTO_ROWS},
            "f32[9,4]",
        ),
        (
            "scatter",
            ["f32[9,4]", "s32[5,1]", "f32[5,6]"],
            {"scatter_dimension_numbers": _INTO_ROWS},
            "f32[9,4]",
        ),
        ("reduce-scatter", ["f32[2,5]"], _GROUPS, "f32[2,2]"),
        ("get-tuple-element", ["(f32[2],s32)"], {"tuple_index": 2}, "s32"),
        ("get-tuple-element", ["f32[2]"], {}, "f32[2]"),
        ("negate", [], {}, "f32[2]"),
        ("add", ["f32[2]"], {}, "f32[2]"),
        ("scatter", ["f32[2]", "s32[1]", "s32[1]", "f32[2]"], {}, "f32[2]"),
    ],
)
def test_operands_and_dimensions_that_do_not_fit_are_refused(
    opcode: str, operands: list[str], fields: dict[str, Any], result: str
) -> None:
    assert codes(opcode, operands, fields, result) == ["EVRF064"]


def test_a_constant_is_as_its_literal() -> None:
    hlo = HloBuilder()
    constant = hlo.op("constant", "f32[2]")
    set_shape(constant.literal.shape, "f32[2]")
    assert hlo.codes() == []
    constant.literal.shape.dimensions[0] = 3
    assert hlo.codes() == ["EVRF064"]


def test_a_loop_keeps_its_state() -> None:
    hlo = HloBuilder()
    condition, body = hlo.body(), hlo.body()
    condition.parameter("f32[2]")
    condition.op("constant", "pred")
    body.op("negate", "f32[2]", body.parameter("f32[2]"))
    loop = hlo.op("while", "f32[2]", hlo.parameter("f32[2]"), calls=[body, condition])
    assert "EVRF064" not in hlo.codes()
    loop.shape.dimensions[0] = 3
    assert hlo.codes() == ["EVRF064"]


def test_the_signature_is_that_of_the_entry() -> None:
    hlo = HloBuilder()
    hlo.op("negate", "f32[2]", hlo.parameter("f32[2]"))
    set_shape(hlo.message.program_shape.parameters.add(), "f32[2]")
    set_shape(hlo.message.program_shape.result, "f32[2]")
    assert hlo.codes() == []
    hlo.message.program_shape.parameters[0].dimensions[0] = 3
    (finding,) = hlo.check()
    assert finding.message == "parameter 0 is f32[2], the program's signature says f32[3]"
    hlo.message.program_shape.parameters[0].dimensions[0] = 2
    hlo.message.program_shape.result.dimensions[0] = 3
    assert hlo.codes() == ["EVRF064"]


def test_a_program_of_wrong_shapes_is_judged_by_them_alone() -> None:
    hlo = HloBuilder()
    hlo.op("add", "f64[3]", hlo.parameter("f64[2]"), hlo.parameter("f64[2]"))
    assert hlo.codes() == ["EVRF064"]


def _pair(x: jax.Array) -> Any:
    return lax.fori_loop(0, 5, lambda i, y: y + x[i], x[0])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.cumsum(x, axis=0),
        lambda x: jax.nn.softmax(x @ x.T),
        lambda x: jnp.pad(x, ((1, 2), (0, 0))) * 2,
        lambda x: lax.dynamic_update_slice(x, x[:2], (1, 0)),
        lambda x: lax.dynamic_slice(x, (x[0, 0].astype(int), 0), (2, 3)),
        lambda x: x.at[jnp.array([1, 2])].add(1.0),
        lambda x: jnp.take(x, jnp.array([1, 2]), axis=0, mode="clip"),
        lambda x: jnp.flip(x[::2, 1:], 0),
        lambda x: jnp.where(x > 0, jnp.concatenate([x, x])[:8], -x).astype(jnp.bfloat16),
        lambda x: jnp.einsum("ab,cb->ac", x, x).clip(0, 1),
        lambda x: jax.nn.gelu(x) + lax.erf(x),
        _pair,
    ],
)
def test_what_jax_lowers_has_no_findings(function: Callable[[jax.Array], Any]) -> None:
    lowered: Any = jax.jit(function).lower(jnp.ones((8, 3), jnp.float32)).compiler_ir("hlo")
    hlo = lowered.as_serialized_hlo_module_proto()
    assert len(LEGACY.FromString(hlo).computations[-1].instructions) > 1
    assert [str(f) for f in check_program(hlo, program="p", target="trn1", lnc=1)] == []
