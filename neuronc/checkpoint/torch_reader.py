"""Reading files of ``torch.save``: torch's restricted unpickler, values mapped on demand."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc import dtypes
from neuronc.checkpoint.paths import reading
from neuronc.checkpoint.tensor_info import TensorInfo, no_such_tensor
from neuronc.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchReader:
    """A `TensorReader` over mapped torch tensors."""

    folder: Path
    mapped: "Mapping[str, torch.Tensor]"

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A fresh array; torch has no view that numpy could share for bf16."""
        if name not in self.mapped:
            raise no_such_tensor(name, self.mapped, subject=self.folder)
        return to_array(name, self.mapped[name])

    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        """A fresh array of rows ``start`` to ``stop``."""
        if name not in self.mapped:
            raise no_such_tensor(name, self.mapped, subject=self.folder)
        return to_array(name, self.mapped[name][start:stop])


def to_array(name: str, tensor: "torch.Tensor") -> "np.ndarray[Any, Any]":
    """The values of ``tensor``, copied."""
    import numpy as np
    import torch

    dense = tensor.detach().contiguous()
    dtype = dtypes.numpy_dtype(tensor_info(name, dense).dtype)
    raw = dense.reshape(-1).view(torch.uint8).numpy()
    return np.array(raw).view(dtype).reshape(tuple(dense.shape))


def tensor_info(name: str, tensor: "torch.Tensor") -> TensorInfo:
    """What `TensorInfo` says of a torch tensor."""
    dtype = dtypes.from_torch(str(tensor.dtype), subject=f"tensor {name!r}")
    return TensorInfo(name=name, shape=tuple(tensor.shape), dtype=dtype)


def load_torch_file(path: Path) -> "dict[str, torch.Tensor]":
    """The tensors of one file, mapped and not read; imports torch.

    Raises:
        InputError: The file is damaged, or holds anything but dense tensors by name. Nothing but
            tensors is ever unpickled.
    """
    found = _unpickle(path)
    if not isinstance(found, dict) or not all(map(_is_named_dense, found, found.values())):
        message = f"{path} holds something else than dense tensors by name"
        raise InputError(message, hint="convert the checkpoint to safetensors")
    return {name: _checked(path, value) for name, value in found.items()}


def load_torch_tensor(path: Path) -> "torch.Tensor":
    """The only tensor of a file, mapped and not read; imports torch.

    Raises:
        InputError: The file is damaged, or holds anything but one dense tensor with all its
            values. Nothing but tensors is ever unpickled.
    """
    found = _unpickle(path)
    if not _is_dense(found):
        message = f"{path} holds something else than one dense tensor"
        raise InputError(message, hint="convert the checkpoint to safetensors")
    return _checked(path, found)


def _checked(path: Path, found: "torch.Tensor") -> "torch.Tensor":
    """``found`` without whatever else the pickle set on it."""
    import torch

    tensor = torch.Tensor.detach(found)
    # strides of zero let a small file stand for a tensor that no memory can hold
    if tensor.nbytes > path.stat().st_size:
        message = f"{path} says it holds {tensor.nbytes} bytes of values; it has fewer"
        raise InputError(message, hint="save the tensor again, contiguous")
    return tensor


def _unpickle(path: Path) -> Any:
    import torch

    try:
        with reading(path):
            return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except InputError:
        raise
    except Exception as error:  # a hostile pickle can fail in any way it likes
        message = f"{path} is not a file of plain tensors: {_first_line(error)}"
        raise InputError(message, hint="convert the checkpoint to safetensors") from error


def _is_named_dense(name: object, value: object) -> bool:
    return isinstance(name, str) and _is_dense(value)


def _is_dense(value: object) -> bool:
    import torch

    return (
        isinstance(value, torch.Tensor)
        and type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_nested or value.is_quantized or value.is_neg() or value.is_conj())
    )


def _first_line(error: Exception) -> str:
    """What is wrong with the file, without torch's advice to unpickle anything."""
    text = str(error) or type(error).__name__
    found = re.search(r"unsupported .*?(?=\.?\s*$|\. )", text, re.IGNORECASE | re.MULTILINE)
    return (found[0] if found else text.splitlines()[0])[:200]
