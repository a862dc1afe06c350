"""Fields that our own models do not use, but the pre-flight reads."""

from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import lax

from neuronc.targets.neuron.hlo.legalise import legalise
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.preflight.check import check_program
from neuronc.trace.program_spec import ProgramSignature, TensorSpec


def lowered(function: Callable[..., Any], *arguments: np.ndarray) -> bytes:
    """As today's XLA writes it."""
    hlo: Any = jax.jit(function).lower(*arguments).compiler_ir("hlo")
    return bytes(hlo.as_serialized_hlo_module_proto())


def legal(function: Callable[..., Any], *arguments: np.ndarray) -> bytes:
    spec = TensorSpec(name="x", kind="data", shape=(), dtype="f32")
    signature = ProgramSignature(inputs=(spec,) * len(arguments), outputs=(spec,), aliases={})
    return legalise(lowered(function, *arguments), signature)


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (2, 1), [(0, 1), (1, 1)], lhs_dilation=(2, 1), rhs_dilation=(1, 3)
    )


def test_a_convolution_is_read_with_its_window() -> None:
    image, kernel = np.ones((1, 2, 8, 9), np.float32), np.ones((4, 2, 3, 3), np.float32)
    hlo = lowered(convolve, image, kernel)
    instructions = LEGACY.FromString(hlo).computations[-1].instructions
    found = next(i for i in instructions if i.opcode == "convolution")
    dimensions = found.window.dimensions
    assert [(d.size, d.stride) for d in dimensions] == [(3, 2), (3, 1)]
    assert [(d.padding_low, d.padding_high) for d in dimensions] == [(0, 1), (1, 1)]
    assert [(d.base_dilation, d.window_dilation) for d in dimensions] == [(2, 1), (1, 3)]
    numbers = found.convolution_dimension_numbers
    assert (numbers.input_batch_dimension, numbers.input_feature_dimension) == (0, 1)
    assert list(numbers.kernel_spatial_dimensions) == [2, 3]
    codes = {finding.code for finding in check_program(hlo, program="p", target="trn2", lnc=2)}
    assert codes == {"EVRF010", "EVRF011"}


def test_random_bits_are_read_with_their_algorithm() -> None:
    def bits(state: jax.Array) -> Any:
        algorithm = lax.RandomAlgorithm.RNG_PHILOX
        return lax.rng_bit_generator(state, (4,), algorithm=algorithm)[1]

    hlo = lowered(bits, np.ones(4, np.uint32))
    (finding,) = check_program(hlo, program="p", target="trn2", lnc=2)
    assert finding.code == "EVRF006"
    assert "RNG_PHILOX" in finding.message


@pytest.mark.parametrize(
    ("dtype", "codes"),
    [
        (ml_dtypes.float8_e4m3fn, {"EVRF051"}),
        (ml_dtypes.float8_e5m2, set()),
        (ml_dtypes.float8_e4m3, set()),
        (ml_dtypes.float8_e4m3fnuz, {"EVRF005"}),
    ],
)
def test_constants_of_8_bit_floats_keep_their_values(dtype: Any, codes: set[str]) -> None:
    values = np.array([1, 2, 3], dtype)
    hlo = legal(lambda x: lax.concatenate([x, values], 0), values)
    instructions = LEGACY.FromString(hlo).computations[-1].instructions
    constant = next(i for i in instructions if i.opcode == "constant")
    literals = {f.name: value for f, value in constant.literal.ListFields() if f.name != "shape"}
    assert list(literals.values()) == [values.tobytes()]
    found = check_program(hlo, program="p", target="trn2", lnc=2)
    assert {finding.code for finding in found} == codes
