"""This machine's read bandwidth and matrix-product rate, measured in about a second."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from neuronc.bench.environment import threads_visible
from neuronc.bench.roofline.machine import Machine

MIN_BUFFER_BYTES = 256 * 2**20
CACHES = 4  # times the last-level caches, so that three quarters of every pass come from memory
SEGMENT_BYTES = 32 * 2**20  # timed at once: under a millisecond, so some are not interrupted
MEMORY_SHARE = 0.25  # of what is free, at most
SECONDS_PER_KERNEL = 0.1
SIZES = (1024, 1536)  # of the square matrices
_CPUS = Path("/sys/devices/system/cpu")

Kernel = Callable[[np.ndarray[Any, Any]], Any]
_KERNELS: Mapping[str, Kernel] = {  # one pass over an array of int64
    "bitwise or": np.bitwise_or.reduce,
    "sum": np.add.reduce,
    "maximum of float32": lambda part: np.maximum.reduce(part.view(np.float32)),
}


def measure_cpu(*, seconds_per_kernel: float = SECONDS_PER_KERNEL) -> Machine:
    """Measure now; nothing else should run, in this process or beside it.

    Bandwidth: the fastest of `_KERNELS`, each in as many threads as there are CPUs, going round a
    buffer that no cache holds. Arithmetic: XLA's own product of square matrices with the options our
    programs are compiled with, the best of `SIZES`. A best time, not a mean: a peak is what the
    machine can do when nothing is in the way.
    """
    num_bytes, caches = buffer_bytes()
    rates = _read_rates(num_bytes, seconds_per_kernel)
    fastest = max(rates, key=lambda name: rates[name])
    flops = {name: _flops_per_s(name, seconds_per_kernel) for name in ("f32", "bf16")}
    beyond = "" if num_bytes >= CACHES * caches else ", little more than the caches"
    return Machine(
        read_bytes_per_s=rates[fastest],
        flops_per_s=flops,
        source="measured",
        how=(
            f"numpy's {fastest} over {num_bytes / 2**20:.0f} MiB{beyond} in {_num_threads()} "
            f"threads, best of {', '.join(rates)}; XLA:CPU products of "
            f"{' and '.join(map(str, SIZES))} square matrices"
        ),
    )


def buffer_bytes(cpus: Path = _CPUS) -> tuple[int, int]:
    """Size of the buffer to read, a multiple of 8, and of all last-level caches together."""
    caches = last_level_cache_bytes(cpus)
    free = int(psutil.virtual_memory().available * MEMORY_SHARE)
    return min(max(MIN_BUFFER_BYTES, CACHES * caches), free) // 8 * 8, caches


def last_level_cache_bytes(cpus: Path = _CPUS) -> int:
    """Of the level-3 caches that are there, each once; 0 where the system does not tell."""
    sizes = {}
    for folder in cpus.glob("cpu[0-9]*/cache/index3"):
        try:
            shared = (folder / "shared_cpu_list").read_text().strip()
            size = (folder / "size").read_text().strip()
        except OSError:
            continue
        sizes[shared] = int(size.rstrip("KMG")) * {"K": 2**10, "M": 2**20, "G": 2**30}.get(
            size[-1], 1
        )
    return sum(sizes.values())


def _num_threads() -> int:
    return threads_visible() or os.cpu_count() or 1


def _read_rates(num_bytes: int, seconds: float) -> dict[str, float]:
    """Bytes per second of each kernel, at its best segment; segments take turns."""
    buffer = np.empty(num_bytes // 8, dtype=np.int64)
    whole = np.array_split(buffer, max(1, num_bytes // SEGMENT_BYTES))
    segments = [np.array_split(segment, _num_threads()) for segment in whole]
    turns = cycle(segments)
    with ThreadPoolExecutor(_num_threads()) as pool:

        def read(kernel: Kernel) -> None:
            list(pool.map(kernel, next(turns)))

        for _ in segments:
            read(lambda part: part.fill(1))
        return {
            name: whole[-1].nbytes / best_s(partial(read, kernel), seconds)
            for name, kernel in _KERNELS.items()
        }


def _flops_per_s(dtype: str, seconds: float) -> float:
    """``2 n^3`` over the best time of an n by n product, the best n."""
    import jax

    from neuronc.dtypes import DTYPES, numpy_dtype
    from neuronc.targets.cpu import COMPILER_OPTIONS

    def one_product(n: int) -> float:
        matrix = jax.device_put(np.ones((n, n), dtype=numpy_dtype(DTYPES[dtype])))
        lowered = jax.jit(lambda a, b: a @ b).lower(matrix, matrix)
        program = lowered.compile(compiler_options=COMPILER_OPTIONS)
        return 2 * n**3 / best_s(lambda: program(matrix, matrix).block_until_ready(), seconds)

    return max(map(one_product, SIZES))


def best_s(call: Callable[[], Any], seconds: float) -> float:
    """Shortest time of a call, of those that fit ``seconds`` and two at least; after one untimed."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)
