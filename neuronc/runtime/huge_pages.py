"""Arrays in large pages: weights are read from end to end for every token, page by page.

Linux gives large pages to anonymous memory that asks for them (``madvise(2)``, MADV_HUGEPAGE) and is
aligned to them; where it has none, or they are switched off, pages are as small as ever.
"""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

_PAGE_BYTES = 2 << 20
_ALIGNMENT_BYTES = 64
"""Of arrays that XLA:CPU uses in place (``cpu_function_runtime::MinAlign``)."""

Array = np.ndarray[Any, Any]


def empty_in_huge_pages(wanted: Sequence[tuple[tuple[int, ...], "np.dtype[Any]"]]) -> list[Array]:
    """An array for each shape and dtype, one after the other in one block of memory, not filled.

    The block is given back when none of them is used any more.
    """
    sizes = [prod(shape) * dtype.itemsize for shape, dtype in wanted]
    places, total = [], 0
    for size in sizes:
        places.append(total)
        total += -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    block = _block(total)
    return [
        block[place : place + size].view(dtype).reshape(shape)
        for (shape, dtype), place, size in zip(wanted, places, sizes, strict=True)
    ]


def _block(num_bytes: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    pages = -(-num_bytes // _PAGE_BYTES) + 1  # one more to be aligned in
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, pages * _PAGE_BYTES, flags=private)
    with suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = np.frombuffer(memory, dtype=np.uint8)
    start = -whole.ctypes.data % _PAGE_BYTES
    return whole[start : start + num_bytes]
