"""Symmetric quantisation of weights, one scale per output channel.

A channel's scale is its largest absolute value over the scheme's largest; a weight is stored as the
nearest representable value of weight / scale, and stands for that value times the scale. Channels
are independent of each other, so whole tensors and blocks of channels give the same bits.

fp8_e4m3 is stored as float8_e4m3fn, which torch and safetensors have, and which ends at 448.
Trainium and Trainium2 have f8e4m3, which has infinities and ends at 240 (Neuron SDK 2.32,
``about-neuron/arch/neuron-features/data-types``). Both have 4 exponent bits of bias 7 and 3
mantissa bits: up to 240 the same bits are the same value, and no stored value is larger.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import InputError

Array = np.ndarray[Any, Any]
_BLOCK_ELEMENTS = 2**22  # of f32 copies in memory at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How weights are stored.

    Attributes:
        name: As in ``--quantize``.
        dtype: Our name of the element type.
        limit: Largest absolute value stored.
    """

    name: str
    dtype: str
    limit: float


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="int8", dtype="i8", limit=127.0),
        Scheme(name="fp8_e4m3", dtype="f8e4m3fn", limit=240.0),
    )
}


def channel_scales(weight: Array, channel_dim: int, scheme: Scheme, *, name: str) -> Array:
    """The scale of every output channel, ``[channels]`` f32; 1 for a channel of zeros.

    Args:
        weight: ``[out, in]`` or ``[in, out]``, any float dtype.
        channel_dim: Which of the two dims is ``out``.
        scheme: How it is going to be stored.
        name: Of the tensor, for messages.

    Raises:
        InputError: a value is NaN or infinite, or too large for f32.
    """
    largest = np.zeros(weight.shape[channel_dim], np.float32)
    for place, block in _blocks(weight, channel_dim):
        found = np.abs(block).max(axis=1 - channel_dim, initial=0.0)
        if not np.isfinite(found).all():
            message = f"tensor {name!r} holds NaN or infinity; --quantize needs finite weights"
            raise InputError(message, hint="repair the checkpoint, or leave out --quantize")
        largest[place] = found
    # Not below the smallest normal number: processors may take those for zero.
    scales = np.maximum(largest / np.float32(scheme.limit), np.finfo(np.float32).tiny)
    return np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)


def quantize(weight: Array, scales: Array, channel_dim: int, scheme: Scheme) -> Array:
    """``weight`` in the scheme's element type: nearest value, ties to even.

    Args:
        weight: As for `channel_scales`, or a block of its channels.
        scales: ``[channels]`` f32 of the channels in ``weight``.
        channel_dim: Which dim they are.
        scheme: How to store it.
    """
    element = numpy_dtype(DTYPES[scheme.dtype])
    stored = np.empty(weight.shape, element)
    for place, block in _blocks(weight, channel_dim):
        scaled = block / _along(scales[place], channel_dim)
        np.clip(scaled, -scheme.limit, scheme.limit, out=scaled)
        if not DTYPES[scheme.dtype].is_float:
            np.rint(scaled, out=scaled)
        stored[_index(place, channel_dim)] = scaled.astype(element)
    return stored


def dequantize(stored: Array, scales: Array, channel_dim: int) -> Array:
    """The weights that ``stored`` stands for, f32 of the same shape."""
    values: Array = stored.astype(np.float32)
    values *= _along(scales, channel_dim)
    return values


def _blocks(weight: Array, channel_dim: int) -> Iterator[tuple[slice, Array]]:
    """Runs of channels and their weights in f32."""
    channels, others = weight.shape[channel_dim], weight.shape[1 - channel_dim]
    step = max(1, _BLOCK_ELEMENTS // max(1, others))
    for begin in range(0, channels, step):
        place = slice(begin, min(begin + step, channels))
        with np.errstate(over="ignore", invalid="ignore"):  # an infinity that is made is refused
            yield place, weight[_index(place, channel_dim)].astype(np.float32)


def _index(place: slice, channel_dim: int) -> tuple[slice, ...]:
    return (place,) if channel_dim == 0 else (slice(None), place)


def _along(scales: Array, channel_dim: int) -> Array:
    return scales[:, None] if channel_dim == 0 else scales[None, :]
