"""Tensors in order, going into several files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from neuronc.checkpoint.digest import FileDigest
from neuronc.checkpoint.direct_file import BUFFER_BYTES
from neuronc.checkpoint.lanes import Lanes
from neuronc.checkpoint.paths import writing
from neuronc.checkpoint.safetensors_writer import Begun, SafetensorsWriter
from neuronc.checkpoint.tensor_info import Place, TensorInfo

if TYPE_CHECKING:
    from hashlib import _Hash

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """A file and the tensors that go into it.

    Attributes:
        path: Relative to the output folder.
        tensors: In order.
        data_begin: See `SafetensorsWriter`.
    """

    path: str
    tensors: tuple[TensorInfo, ...]
    data_begin: int | None = None

    @property
    def size_bytes(self) -> int:
        """Of all values."""
        return sum(info.size_bytes for info in self.tensors)


class FilesWriter:
    """Writes tensors in order, file after file; one file is open at a time."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[PlannedFile],
        *,
        lanes: Lanes,
        lane: int,
        begun: Mapping[str, "_Hash"] = MappingProxyType({}),
        num_done: int = 0,
        keep_part: bool = False,
        metadata: Mapping[str, str] = MappingProxyType({}),
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """Go on after ``num_done`` tensors.

        Args:
            folder: The output folder.
            files: In order; each has a tensor at least.
            lanes: See `SafetensorsWriter`, as for all that have its names.
            lane: See there.
            begun: By path, the digest of what an earlier run wrote of a file.
            num_done: Tensors that are in those files.
            keep_part: See there.
            metadata: See there.
            buffer_bytes: See there.

        Raises:
            PlanError: The disk has less room than the next file needs.
            UsageError: ``folder`` cannot be written.
        """
        self._folder, self._lanes, self._lane = folder, lanes, lane
        self._keep_part, self._metadata, self._buffer_bytes = keep_part, metadata, buffer_bytes
        self._waiting = list(reversed(files))
        self._done: list[FileDigest] = []
        self._file = self._waiting[-1]
        self._writer: SafetensorsWriter | None = None
        while self._waiting and num_done >= len(self._waiting[-1].tensors):
            file = self._waiting.pop()
            num_done -= len(file.tensors)
            size_bytes = (folder / file.path).stat().st_size
            self._note(file.path, size_bytes, begun[file.path].hexdigest())
        if num_done:
            sha256 = begun[self._waiting[-1].path]
            self._open(Begun(num_tensors=num_done, sha256=sha256))

    def append(self, name: str, rows: Array, place: Place | None = None) -> None:
        """Rows of the tensor whose turn it is; see `SafetensorsWriter.append`."""
        writer = self._writer or self._open(None)
        writer.append(name, rows, place)

    def finish(self, name: str) -> None:
        """End the tensor; a file that is whole then gets its name."""
        writer = self._writer or self._open(None)
        writer.finish(name)
        if name == self._file.tensors[-1].name:
            written = writer.close()
            self._note(self._file.path, written.size_bytes, written.sha256)
            self._writer = None

    def so_far(self) -> list[FileDigest]:
        """Every file that is begun or done, as far as it is written; waits for the lanes."""
        if self._writer is None:
            return list(self._done)
        now = self._writer.so_far()
        begun = FileDigest(path=self._file.path, size_bytes=now.size_bytes, sha256=now.sha256)
        return [*self._done, begun]

    def _open(self, begun: Begun | None) -> SafetensorsWriter:
        self._file = self._waiting.pop()
        path = self._folder / self._file.path
        with writing(path.parent, needed_bytes=0):
            path.parent.mkdir(exist_ok=True)
            if begun and path.is_file():  # the earlier run came as far as giving it its name
                path.replace(path.with_name(f"{path.name}.part"))
        self._writer = SafetensorsWriter(
            path,
            self._file.tensors,
            lanes=self._lanes,
            lane=self._lane,
            begun=begun,
            keep_part=self._keep_part,
            metadata=self._metadata,
            buffer_bytes=self._buffer_bytes,
            data_begin=self._file.data_begin,
        )
        return self._writer

    def _note(self, path: str, size_bytes: int, sha256: str) -> None:
        self._done.append(FileDigest(path=path, size_bytes=size_bytes, sha256=sha256))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, traceback)
