"""A strict stand-in for AWS's nrtpy: its documented API, nothing else, on XLA:CPU.

Contract: Neuron SDK 2.32, neuron-runtime/nrtpy. It keeps the documented traps: outputs it allocates
come back without a real dtype, names and sizes are compared, there is one runtime per process.
"""

import os
from collections.abc import Iterable

from nrtpy._model import BenchmarkResult, NrtpyModel, TensorMetadata
from nrtpy._runtime import NrtError, NrtpyError, get_nrtpy_singleton, reset, runtime_is_active
from nrtpy._tensor import NrtpyTensor

__all__ = [
    "BenchmarkResult",
    "NrtError",
    "NrtpyError",
    "NrtpyModel",
    "NrtpyTensor",
    "TensorMetadata",
    "configure",
    "get_nrtpy_singleton",
    "reset",
]


def configure(visible_cores: Iterable[int] | None = None) -> None:
    """Choose the cores of this process, before first use."""
    if runtime_is_active():
        message = "configure() must be called before the runtime is used"
        raise NrtpyError(message)
    if visible_cores is None:
        return
    if not isinstance(visible_cores, Iterable):
        message = "visible_cores must be an iterable of int"
        raise TypeError(message)
    cores = list(visible_cores)
    if any(type(core) is not int for core in cores):
        message = "visible_cores must be an iterable of int"
        raise TypeError(message)
    if any(core < 0 for core in cores):
        message = "visible_cores must not be negative"
        raise ValueError(message)
    os.environ["NEURON_RT_VISIBLE_CORES"] = ",".join(map(str, cores))
