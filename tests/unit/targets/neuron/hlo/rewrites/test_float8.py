from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.rewrites.float8 import F8E4M3, F8E4M3FN
from neuronc.targets.neuron.hlo.walk import shapes_of
from tests.hlo_programs import legal_module


def lowered(function: Any, *arrays: Any) -> bytes:
    hlo: Any = jax.jit(function).lower(*arrays).compiler_ir("hlo")
    return bytes(hlo.as_serialized_hlo_module_proto())


def eight_bit_types(module: Any) -> set[int]:
    return {shape.element_type for shape in shapes_of(module)} & {F8E4M3, F8E4M3FN}


WEIGHT = np.ones((4, 6), ml_dtypes.float8_e4m3fn)


@pytest.mark.parametrize(("ends_at_240", "expected"), [(True, F8E4M3), (False, F8E4M3FN)])
def test_inputs_have_the_type_that_the_target_has(ends_at_240: bool, expected: int) -> None:
    hlo = lowered(lambda w: w[1:].astype(jnp.float32), WEIGHT)
    assert eight_bit_types(legal_module(hlo, floats_end_at_240=ends_at_240)) == {expected}


def test_values_that_the_program_makes_itself_are_refused() -> None:
    hlo = lowered(lambda x: x.astype(jnp.float8_e4m3fn), np.ones(4, np.float32))
    with pytest.raises(CompilerError, match=r"\(convert\) makes values of f8e4m3fn"):
        legal_module(hlo, floats_end_at_240=True)
    assert eight_bit_types(legal_module(hlo)) == {F8E4M3FN}


def test_constants_are_refused() -> None:
    hlo = lowered(lambda w: jnp.concatenate([w, WEIGHT]), WEIGHT)
    with pytest.raises(CompilerError, match=r"\(constant|broadcast\) makes values of f8e4m3fn"):
        legal_module(hlo, floats_end_at_240=True)
