"""Blocks of 256 values as llama.cpp's K-quants store them, against their definition (ggml-quants.c)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from neuronc.checkpoint.gguf import read_stored
from neuronc.checkpoint.gguf_header import read_gguf_header

Array = np.ndarray[Any, Any]


def q4_k(block: Array) -> Array:
    """``d * scale * q - dmin * min``: 4-bit values, 6-bit scales and minima of 8 runs of 32."""
    d, dmin = (float(x) for x in block[:4].view(np.float16))
    packed, quants = block[4:16].astype(int), block[16:].astype(int).reshape(4, 32)
    values = []
    for run in range(8):
        if run < 4:
            scale, least = packed[run] & 63, packed[run + 4] & 63
        else:
            scale = (packed[run + 4] & 15) | ((packed[run - 4] >> 6) << 4)
            least = (packed[run + 4] >> 4) | ((packed[run] >> 6) << 4)
        q = quants[run // 2] >> 4 if run % 2 else quants[run // 2] & 15
        values.append(d * scale * q - dmin * least)
    return np.concatenate(values)


def q6_k(block: Array) -> Array:
    """``d * scale * (q - 32)``: 4 low and 2 high bits of each value, 8-bit scales of runs of 16."""
    low, high = block[:128].astype(int), block[128:192].astype(int)
    scales, d = block[192:208].view(np.int8).astype(int), float(block[208:].view(np.float16)[0])
    values = np.empty(256)
    for at in range(256):
        half, place = divmod(at, 128)
        quarter, index = divmod(place, 32)
        byte = low[64 * half + index + 32 * (quarter % 2)]
        nibble = byte >> 4 if quarter >= 2 else byte & 15
        q = nibble | (((high[32 * half + index] >> (2 * quarter)) & 3) << 4)
        values[at] = d * scales[at // 16] * (q - 32)
    return values


CASES = {"Q4_K": (144, (0, 2), q4_k), "Q6_K": (210, (208,), q6_k)}


@pytest.mark.parametrize("kind", CASES)
def test_k_quants_are_read_as_they_are_defined(tmp_path: Path, kind: str) -> None:
    block_bytes, halves, define = CASES[kind]
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (3, 2, block_bytes), np.uint8)
    for at in halves:  # the factors of a block; any other bytes are values
        factors = rng.uniform(0.01, 2, (3, 2, 1)).astype(np.float16)
        blocks[..., at : at + 2] = factors.view(np.uint8)
    path = tmp_path / "k.gguf"
    write(path, blocks.reshape(3, -1), gguf.GGMLQuantizationType[kind])

    [tensor] = read_gguf_header(path).tensors
    found = read_stored(path, tensor)

    expected = np.stack([expand(row, define) for row in blocks])
    assert found.shape == tensor.shape == (3, 512)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def expand(row: Array, define: Callable[[Array], Array]) -> Array:
    return np.concatenate([define(block) for block in row])


def write(path: Path, data: Array, kind: gguf.GGMLQuantizationType) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
