"""Reading files of ``torch.save``: torch's restricted unpickler says where each tensor lies.

Values are then read from there, some rows at a time. A mapping of the whole file, as torch makes
it, would count as memory of this process as far as it was ever read.
"""

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
class StridedTensor:
    """Where a tensor lies.

    Attributes:
        info: What it is.
        path: The file.
        offset: Of its first element, in bytes from the start of the file.
        strides: Bytes between neighbours along each dim; a transposed tensor is stored as it was.
    """

    info: TensorInfo
    path: Path
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchReader:
    """A `TensorReader` over files of ``torch.save``; imports no torch."""

    folder: Path
    stored: "Mapping[str, StridedTensor]"

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A fresh array."""
        found = self._find(name)
        return _read(found, 0, found.info.shape)

    def read_range(self, name: str, start: int, stop: int) -> "np.ndarray[Any, Any]":
        """A fresh array of rows ``start`` to ``stop``."""
        found = self._find(name)
        return _read(found, start, (stop - start, *found.info.shape[1:]))

    def _find(self, name: str) -> StridedTensor:
        if name not in self.stored:
            raise no_such_tensor(name, self.stored, subject=self.folder)
        return self.stored[name]


def _read(stored: StridedTensor, start: int, shape: tuple[int, ...]) -> "np.ndarray[Any, Any]":
    """The part of ``shape`` that begins with row ``start``, copied: nothing stays mapped."""
    import numpy as np

    dtype = dtypes.numpy_dtype(stored.info.dtype)
    if 0 in shape:
        return np.empty(shape, dtype)
    offset = stored.offset + (start * stored.strides[0] if start else 0)
    steps = zip(shape, stored.strides, strict=True)
    extent = sum((size - 1) * stride for size, stride in steps) + dtype.itemsize
    try:
        with reading(stored.path):
            raw = np.memmap(stored.path, np.uint8, "r", offset, extent)
    except ValueError as error:
        message = f"{stored.path} became shorter after it was opened: tensor {stored.info.name!r}"
        message += f" should go on to byte {offset + extent}"
        raise InputError(message, hint="leave the checkpoint alone while it is used") from error
    view: np.ndarray[Any, Any] = np.ndarray(shape, dtype, np.asarray(raw), 0, stored.strides)
    return view.copy()


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


def load_torch_file(path: Path) -> dict[str, StridedTensor]:
    """Where the tensors of one file lie; no values are read; imports torch.

    Raises:
        InputError: The file is damaged, or holds anything but dense tensors by name. Nothing but
            tensors is ever unpickled.
    """
    found = _unpickle(path)
    if not isinstance(found, dict) or not all(map(_is_named_dense, found, found.values())):
        message = f"{path} holds something else than dense tensors by name"
        raise InputError(message, hint="convert the checkpoint to safetensors")
    tensors = {name: _checked(path, value) for name, value in found.items()}
    placed = _unpickle(path, device="meta")  # torch tells offsets only of tensors without values
    return {name: _stored(path, name, tensors[name], placed[name]) for name in tensors}


def _stored(path: Path, name: str, tensor: "torch.Tensor", placed: "torch.Tensor") -> StridedTensor:
    import torch

    info = tensor_info(name, tensor)
    item_bytes = info.dtype.size_bytes
    # torch documents it as the way to an offset, underscore and all (notes, "Serialization")
    begin = torch.Tensor.untyped_storage(placed)._checkpoint_offset
    offset = -1 if begin is None else begin + int(tensor.storage_offset()) * item_bytes
    if not 0 <= offset <= path.stat().st_size - (item_bytes if tensor.numel() else 0):
        message = f"{path} does not say where in it the values of {name!r} lie"
        raise InputError(message, hint="convert the checkpoint to safetensors")
    strides = tuple(stride * item_bytes for stride in tensor.stride())
    return StridedTensor(info=info, path=path, offset=offset, strides=strides)


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


def _unpickle(path: Path, *, device: str = "cpu") -> Any:
    import torch

    try:
        with reading(path):
            return torch.load(path, weights_only=True, mmap=True, map_location=device)
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
