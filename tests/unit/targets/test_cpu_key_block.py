"""Where the keys of a value come from, operation by operation."""

import pytest
from jax.interpreters.mlir import make_ir_context
from jaxlib.mlir import ir

from neuronc.targets.cpu_key_block import Dims, dims_before

X, Y = "tensor<2x6x4xf32>", "tensor<2x4x6xf32>"
BATCH = "batching_dims = [0] x [0], contracting_dims = [2] x [1]"


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        (f"stablehlo.add %x, %x : {X}", [{0: 0, 1: 0}, {0: 1, 1: 1}, {0: 2, 1: 2}]),
        (f"stablehlo.transpose %x, dims = [2, 0, 1] : ({X}) -> tensor<4x2x6xf32>",
         [{0: 2}, {0: 0}, {0: 1}]),
        (f"stablehlo.slice %x [0:2, 0:5, 1:4] : ({X}) -> tensor<2x5x3xf32>",
         [{0: 0}, {0: 1}, None]),
        (f"stablehlo.slice %x [0:2, 0:6:2, 0:4] : ({X}) -> tensor<2x3x4xf32>",
         [{0: 0}, None, {0: 2}]),
        (f"stablehlo.reshape %x : ({X}) -> tensor<2x6x2x2xf32>", [{0: 0}, {0: 1}, None, None]),
        (f"stablehlo.reshape %x : ({X}) -> tensor<12x4xf32>", [None, {0: 2}]),
        (f"stablehlo.concatenate %x, %x, dim = 2 : ({X}, {X}) -> tensor<2x6x8xf32>",
         [{0: 0, 1: 0}, {0: 1, 1: 1}, None]),
        (f"stablehlo.broadcast_in_dim %x, dims = [0, 2, 3] : ({X}) -> tensor<2x5x6x4xf32>",
         [{0: 0}, {}, {0: 1}, {0: 2}]),
        ("stablehlo.broadcast_in_dim %one, dims = [0] : (tensor<1xf32>) -> tensor<7xf32>", [{}]),
        (f"stablehlo.dot_general %x, %y, {BATCH} : ({X}, {Y}) -> tensor<2x6x6xf32>",
         [{0: 0, 1: 0}, {0: 1}, {1: 2}]),
        (f"stablehlo.reverse %x, dims = [1] : {X}", [None, None, None]),
    ],
)  # fmt: skip
def test_dims_are_followed_only_where_index_n_comes_from_index_n(
    operation: str, found: list[Dims | None]
) -> None:
    text = f"func.func @main(%x: {X}, %y: {Y}, %one: tensor<1xf32>) {{\n%r = {operation}\nreturn }}"
    with make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        result = module.body.operations[0].regions[0].blocks[0].operations[0].results[0]
        assert [dims_before(result, dim) for dim in range(len(result.type.shape))] == found
