"""What a tensor on disk is, and what reads one: shared by every file format."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from neuronc.dtypes import Dtype
from neuronc.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """Name, shape and dtype of one tensor, known without reading its values."""

    name: str
    shape: tuple[int, ...]
    dtype: Dtype

    @property
    def size_bytes(self) -> int:
        """Bytes of the values, without any header."""
        return math.prod(self.shape) * self.dtype.size_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedAdapter:
    """The LoRA adapter that is part of a checkpoint's values.

    Attributes:
        name: Last part of its folder's path.
        file: Its weight file.
        sha256: Of that file.
        config_sha256: Of ``adapter_config.json``, which says how it is scaled.
    """

    name: str
    file: str
    sha256: str
    config_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where values lie as they are: byte ``offset`` in the local file ``path``."""

    path: Path
    offset: int


class TensorReader(Protocol):
    """Reads the tensors of one checkpoint, one at a time; nothing is kept between reads."""

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """The values of tensor ``name`` (bf16 as ``ml_dtypes.bfloat16``).

        For safetensors a read-only view of the mapped file, so that slicing it reads only the
        slice; for GGUF and ``pytorch_model.bin`` a fresh array as large as the tensor.

        Raises:
            InputError: No such tensor, or the file changed after it was opened.
        """


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like ``name`` as ``; did you mean 'x'?``, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def no_such_tensor(name: str, known: Iterable[str], *, subject: object) -> InputError:
    """The error for a tensor name that ``subject`` does not hold."""
    message = f"{subject} has no tensor {name!r}{nearest(name, known)}"
    return InputError(message, hint="check that config.json belongs to these weights")
