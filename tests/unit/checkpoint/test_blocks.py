from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from neuronc.checkpoint.blocks import blocks_of, rows_per_block
from neuronc.checkpoint.tensor_info import TensorInfo
from neuronc.dtypes import DTYPES

ROWS = np.arange(70, dtype=np.float32).reshape(10, 7)


def info(*shape: int) -> TensorInfo:
    return TensorInfo(name="w", shape=shape, dtype=DTYPES["f32"])


@dataclass
class Whole:
    array: "np.ndarray[Any, Any]"
    reads: int = 0

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        assert name == "w"
        self.reads += 1
        return self.array


@dataclass
class Ranged(Whole):
    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        assert name == "w"
        return self.array[start:stop]


@pytest.mark.parametrize("block_bytes", [1, 28, 60, 100, 10_000])
@pytest.mark.parametrize("kind", [Whole, Ranged])
def test_blocks_are_the_tensor_in_order(kind: type[Whole], block_bytes: int) -> None:
    blocks = list(blocks_of(kind(ROWS), info(10, 7), block_bytes=block_bytes))

    assert np.array_equal(np.concatenate([block.values for block in blocks]), ROWS)
    starts = np.cumsum([0, *(len(block.values) for block in blocks)])[:-1]
    assert [block.start for block in blocks] == list(starts)
    assert all(block.values.nbytes <= max(block_bytes, 28) for block in blocks)


def test_a_reader_without_ranges_reads_a_tensor_once() -> None:
    reader = Whole(ROWS)
    assert len(list(blocks_of(reader, info(10, 7), block_bytes=28))) == 10
    assert reader.reads == 1


def test_a_reader_with_ranges_never_reads_a_large_tensor_whole() -> None:
    reader = Ranged(ROWS)
    assert len(list(blocks_of(reader, info(10, 7), block_bytes=28))) == 10
    assert reader.reads == 0


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 4), np.float32)])
def test_scalars_and_empty_tensors_are_one_block(array: Any) -> None:
    array = np.asarray(array)
    blocks = list(blocks_of(Ranged(array), info(*array.shape), block_bytes=1))
    assert [block.values.shape for block in blocks] == [array.shape]


def test_a_row_of_nothing_does_not_divide_by_zero() -> None:
    assert rows_per_block(info(5, 0), 100) == 5
