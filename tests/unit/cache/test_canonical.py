"""Digests of programs: the same for the same computation, whatever its parts are called."""

from collections.abc import Callable
from typing import Any

import pytest

from neuronc.cache.canonical import digest_hlo, digest_stablehlo
from tests.entries import make_hlo

_PLAIN = """\
module @jit_decode attributes {mhlo.num_partitions = 2 : i32} {
  func.func public @main(%arg0: tensor<4xf32>) -> tensor<4xf32> {
    %0 = stablehlo.custom_call @alloc(%arg0) {note = "loc(kept)"} : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
}
"""
_LOCATED = """\
#loc = loc(unknown)
#loc1 = loc("args[0]")
module @"another name" attributes {mhlo.num_partitions = 2 : i32} {
  func.func public @main(%arg0: tensor<4xf32> loc("args[0]")) -> tensor<4xf32> {
    %0 = stablehlo.custom_call @alloc(%arg0) {note = "loc(kept)"} : tensor<4xf32> loc(#loc2)
    return %0 : tensor<4xf32> loc(callsite("f (x)"("/home/me/model.py":3:4) at fused["b", #loc1]))
  } loc(#loc)
} loc(#loc)
#loc2 = loc("/home/me/model.py":1:2)
"""


def test_locations_and_the_module_s_name_are_left_out_of_stablehlo() -> None:
    assert digest_stablehlo(_LOCATED) == digest_stablehlo(_PLAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("4xf32", "8xf32"),
        ("@alloc(%arg0)", "@alloc(%arg1)"),  # no location, for all its name ends so
        ("loc(kept)", "loc(other)"),  # nor is what is quoted
        ("num_partitions = 2", "num_partitions = 4"),
        ("@main", "@other"),
    ],
)
def test_what_is_computed_is_not(old: str, new: str) -> None:
    for text in (_PLAIN, _LOCATED):
        assert old in text
        assert digest_stablehlo(text.replace(old, new)) != digest_stablehlo(_PLAIN)


def test_a_location_that_never_ends_takes_nothing_with_it() -> None:
    begun = _PLAIN.replace("return %0", "loc(return %0")
    assert digest_stablehlo(begun) != digest_stablehlo(begun.replace("return", "rewind"))


def test_the_text_of_mlir_with_and_without_locations_is_one_program() -> None:
    import jax
    import jax.numpy as jnp

    lowered = jax.jit(lambda x: jnp.tanh(x) @ x).lower(jnp.ones((4, 4)))
    module: Any = lowered.compiler_ir("stablehlo")
    with_places = module.operation.get_asm(enable_debug_info=True)
    assert "loc(" in with_places
    assert digest_stablehlo(with_places) == digest_stablehlo(str(module))


def test_names_ids_and_metadata_are_left_out_of_hlo() -> None:
    one = make_hlo()
    other = make_hlo(first_id=2**33, prefix="renamed")
    assert one.SerializeToString() != other.SerializeToString()
    assert digest_hlo(one.SerializeToString()) == digest_hlo(other.SerializeToString())


def _opcode(module: Any) -> None:
    module.computations[0].instructions[2].opcode = "multiply"


def _operands(module: Any) -> None:
    add = module.computations[0].instructions[2]
    add.operand_ids[:] = [add.operand_ids[0]] * 2


def _groups(module: Any) -> None:
    module.computations[1].instructions[1].replica_groups[0].replica_ids.append(2)


def _names_of_outputs(module: Any) -> None:
    module.computations[1].instructions[1].frontend_attributes.map["names"] = "tokens"


def _root(module: Any) -> None:
    module.computations[0].root_id = module.computations[0].instructions[0].id


@pytest.mark.parametrize("change", [_opcode, _operands, _groups, _names_of_outputs, _root])
def test_what_hlo_computes_is_not(change: Callable[[Any], None]) -> None:
    module = make_hlo()
    before = digest_hlo(module.SerializeToString())
    change(module)
    assert digest_hlo(module.SerializeToString()) != before
