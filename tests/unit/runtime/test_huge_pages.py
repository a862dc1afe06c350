"""Arrays in one block, where XLA:CPU can use them as they are."""

from itertools import pairwise

import jax
import ml_dtypes
import numpy as np

from neuronc.runtime.huge_pages import empty_in_huge_pages

WANTED = [
    ((3, 5), np.dtype(np.float32)),
    ((7,), np.dtype(ml_dtypes.bfloat16)),
    ((0, 4), np.dtype(np.int8)),
    ((1 << 20, 3), np.dtype(np.int8)),
    ((2, 2), np.dtype(np.float32)),
]


def test_arrays_have_their_shapes_and_do_not_overlap() -> None:
    arrays = empty_in_huge_pages(WANTED)
    assert [(array.shape, array.dtype) for array in arrays] == WANTED
    for number, array in enumerate(arrays):
        array[...] = number + 1
    for number, array in enumerate(arrays):
        assert (array == number + 1).all()
    ends = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))


def test_the_block_begins_with_a_large_page_and_xla_uses_it_in_place() -> None:
    arrays = empty_in_huge_pages(WANTED)
    assert arrays[0].ctypes.data % (2 << 20) == 0
    for array in arrays:
        array[...] = 1
        used = jax.device_put(array, jax.devices("cpu")[0], may_alias=True)
        if array.size:
            assert used.unsafe_buffer_pointer() == array.ctypes.data


def test_memory_lives_as_long_as_what_uses_it() -> None:
    arrays = empty_in_huge_pages([((1 << 20,), np.dtype(np.float32))])
    arrays[0][...] = 3
    used = jax.device_put(arrays[0], jax.devices("cpu")[0], may_alias=True)
    del arrays
    others = [np.full(1 << 20, 7, np.float32) for _ in range(8)]
    assert float(used.sum()) == 3 * (1 << 20)
    assert len(others) == 8
