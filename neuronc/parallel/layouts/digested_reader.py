"""Comparing every tensor that is read with the digest that ``split.json`` has of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.digest import digest_array, new_tensor_digest
from neuronc.checkpoint.tensor_info import TensorInfo, TensorReader
from neuronc.errors import InputError

if TYPE_CHECKING:
    from xxhash import xxh3_128

Array = np.ndarray[Any, Any]


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

    def read(self, name: str) -> Array:
        """As ``reader`` reads it.

        Raises:
            InputError: No such tensor, or not the one that was written.
        """
        array = self.reader.read(name)
        if name in self.digests and digest_array(array) != self.digests[name]:
            raise self._changed(name)
        return array

    def _changed(self, name: str) -> InputError:
        message = f"{name!r} of {self.folder} is not the tensor that split.json was written for"
        hint = "copy the folder again; if you changed the weights yourself, delete split.json"
        return InputError(message, hint=hint)


@dataclass(frozen=True, kw_only=True, slots=True)
class DigestedRangeReader(DigestedReader):
    """The same in front of a `RangeReader`; ranges are compared when they come in order.

    Attributes:
        infos: The tensors.
        begun: By name, how many rows from the first on were read, and their digest.
    """

    infos: Mapping[str, TensorInfo]
    begun: dict[str, tuple[int, "xxh3_128"]] = field(default_factory=dict)

    def read_range(self, name: str, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop``; errors as `read`, when the last row is read."""
        assert isinstance(self.reader, RangeReader), "chosen for it"
        rows = self.reader.read_range(name, start, stop)
        if name not in self.digests:
            return rows
        if start == 0:
            self.begun[name] = (0, new_tensor_digest())
        done, digest = self.begun.get(name, (-1, None))
        if digest is None or done != start:
            return rows
        digest.update(np.ascontiguousarray(rows).reshape(-1).view("u1").data)
        self.begun[name] = (stop, digest)
        if stop == self.infos[name].shape[0] and digest.hexdigest() != self.digests[name]:
            raise self._changed(name)
        return rows
