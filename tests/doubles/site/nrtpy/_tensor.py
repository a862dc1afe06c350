"""Tensors "on the device": bytes of their own, on one core."""

from typing import Any

import numpy as np

from nrtpy._runtime import get_nrtpy_singleton, status


class NrtpyTensor:
    """``tensor_ref`` is the memory: a flat array of bytes."""

    def __init__(
        self, tensor_ref: Any, shape: Any, dtype: Any, name: str | None = None, *, _core_id: int = 0
    ) -> None:
        self.tensor_ref, self.shape, self.dtype, self.name = tensor_ref, tuple(shape), dtype, name
        self._core_id = _core_id

    @classmethod
    def from_numpy(
        cls, array: np.ndarray[Any, Any], name: str | None = None, core_id: int = 0
    ) -> "NrtpyTensor":
        runtime = get_nrtpy_singleton()
        if not 0 <= core_id < len(runtime.cores):
            raise status(2, f"core {core_id} is not visible")
        if not array.flags.c_contiguous:
            message = "array must be C-contiguous"
            raise ValueError(message)
        memory = np.frombuffer(array.tobytes(), dtype=np.uint8).copy()
        return cls(memory, array.shape, array.dtype, name, _core_id=core_id)

    def write_from_numpy(self, array: np.ndarray[Any, Any]) -> None:
        self._require_alive()
        if array.nbytes != self.tensor_ref.nbytes:
            message = f"array has {array.nbytes} bytes, the tensor {self.tensor_ref.nbytes}"
            raise ValueError(message)
        self.tensor_ref[:] = np.frombuffer(array.tobytes(), dtype=np.uint8)

    def numpy(self) -> np.ndarray[Any, Any]:
        self._require_alive()
        found: np.ndarray[Any, Any] = self.tensor_ref.copy().view(self.dtype).reshape(self.shape)
        return found

    def __bool__(self) -> bool:
        message = "the truth of an NrtpyTensor is not documented"
        raise TypeError(message)

    def _require_alive(self) -> None:
        if id(self) in get_nrtpy_singleton().freed:
            raise status(3, f"tensor {self.name} was freed")
