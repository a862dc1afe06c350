from typing import Any

import ml_dtypes
import numpy as np
import pytest

from neuronc.errors import InputError
from neuronc.parallel import quantize as module
from neuronc.parallel.quantize import SCHEMES, channel_scales, dequantize, quantize
from neuronc.recipe import QUANTIZE_CHOICES

Array = np.ndarray[Any, Any]
BOTH = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
INT8, FP8 = SCHEMES["int8"], SCHEMES["fp8_e4m3"]


def weights(out: int = 6, depth: int = 50, seed: int = 0) -> Array:
    """``[out, depth]`` f32, every channel of another size."""
    rng = np.random.default_rng(seed)
    sizes = np.logspace(-3, 2, out, dtype=np.float32)[:, None]
    return rng.standard_normal((out, depth), dtype=np.float32) * sizes


def round_trip(weight: Array, scheme: Any, channel_dim: int = 0) -> Array:
    scales = channel_scales(weight, channel_dim, scheme, name="w")
    return dequantize(quantize(weight, scales, channel_dim, scheme), scales, channel_dim)


def test_int8_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    weight = weights()
    step = np.abs(weight).max(1, keepdims=True) / 127
    assert (np.abs(round_trip(weight, INT8) - weight) <= step * 0.5001).all()


def test_fp8_is_off_by_at_most_a_sixteenth_of_a_value() -> None:
    weight = weights()
    smallest = np.abs(weight).max(1, keepdims=True) / 240 * 2.0**-6  # normal numbers begin here
    large = np.abs(weight) > smallest
    relative = np.abs(round_trip(weight, FP8) / weight - 1)
    assert relative[large].max() <= 2.0**-4


@BOTH
def test_the_largest_value_of_a_channel_is_the_largest_that_is_stored(scheme: Any) -> None:
    weight = weights()
    scales = channel_scales(weight, 0, scheme, name="w")
    stored = quantize(weight, scales, 0, scheme).astype(np.float32)
    np.testing.assert_array_equal(np.abs(stored).max(1), scheme.limit)


@BOTH
def test_channels_of_the_second_dim_give_the_transpose(scheme: Any) -> None:
    weight = weights()
    np.testing.assert_array_equal(round_trip(weight.T, scheme, 1), round_trip(weight, scheme).T)


@BOTH
@pytest.mark.parametrize("channel_dim", [0, 1])
def test_blocks_of_channels_give_the_bits_of_the_whole(
    scheme: Any, channel_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = weights(7, 50) if channel_dim == 0 else weights(7, 50).T
    scales = channel_scales(weight, channel_dim, scheme, name="w")
    whole = quantize(weight, scales, channel_dim, scheme)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 100)  # two channels at a time
    np.testing.assert_array_equal(channel_scales(weight, channel_dim, scheme, name="w"), scales)
    np.testing.assert_array_equal(quantize(weight, scales, channel_dim, scheme), whole)


@BOTH
def test_a_channel_of_zeros_has_scale_1_and_stays_zero(scheme: Any) -> None:
    weight = weights()
    weight[2] = 0
    assert channel_scales(weight, 0, scheme, name="w")[2] == 1
    assert not round_trip(weight, scheme)[2].any()


@BOTH
def test_scales_of_tiny_weights_are_normal_numbers(scheme: Any) -> None:
    weight = np.full((1, 3), 1e-44, np.float32)
    scales = channel_scales(weight, 0, scheme, name="w")
    assert scales[0] == np.finfo(np.float32).tiny
    assert not quantize(weight, scales, 0, scheme).astype(np.float32).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    weight = weights().astype(np.float64)
    weight[1, 3] = bad
    with pytest.raises(InputError, match=r"'layer\.weight' holds NaN or infinity"):
        channel_scales(weight, 0, INT8, name="layer.weight")


def test_no_stored_float_means_another_value_in_the_format_that_ends_at_240() -> None:
    """Every bit pattern that is stored, and what each of the two formats takes it for."""
    every = np.arange(256, dtype=np.uint8)
    ours = every.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    theirs = every.view(ml_dtypes.float8_e4m3).astype(np.float32)
    within = np.abs(ours) <= FP8.limit
    np.testing.assert_array_equal(ours[within], theirs[within])
    assert within.sum() == 240
    weight = weights(64, 300)
    stored = quantize(weight, channel_scales(weight, 0, FP8, name="w"), 0, FP8)
    assert set(stored.view(np.uint8).ravel()) <= set(every[within])


def test_recipes_name_every_scheme() -> None:
    assert set(QUANTIZE_CHOICES) == {*SCHEMES, None}
