"""Comparing every tensor that is read with the digest that ``split.json`` has of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.checkpoint.digest import digest_array
from neuronc.checkpoint.tensor_info import TensorReader
from neuronc.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestedReader:
    """A `TensorReader` in front of another.

    Attributes:
        folder: The folder, for messages.
        reader: What reads the tensors.
        digests: Hex digests by tensor name; a tensor without one is passed on.
    """

    folder: Path
    reader: TensorReader
    digests: Mapping[str, str]

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """As ``reader`` reads it.

        Raises:
            InputError: No such tensor, or not the one that was written.
        """
        array = self.reader.read(name)
        if name in self.digests and digest_array(array) != self.digests[name]:
            message = f"{name!r} of {self.folder} is not the tensor that split.json was written for"
            hint = "copy the folder again; if you changed the weights yourself, delete split.json"
            raise InputError(message, hint=hint)
        return array
