"""How much memory a split may take, and what it does with it."""

from collections.abc import Mapping
from dataclasses import dataclass

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.tensor_info import TensorInfo, TensorReader
from neuronc.dtypes import Dtype
from neuronc.errors import PlanError

MIB = 1 << 20
DEFAULT_BLOCK_BYTES = 4 * MIB
REMOTE_BLOCK_BYTES = 32 * MIB
"""Behind a URL every block is a request, and another that asks whether the file is still the same."""

_PROCESS_BYTES = 128 * MIB
"""What the interpreter with numpy takes, and the manifest of a large model: 70 to 100 MB measured."""

_BLOCKS_WAITING = 6

_BLOCKS = 16
"""Of a size that memory has room for: those, what is read and cast next, and the files' buffers."""

_LEAST_BUFFER_BYTES = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitMemory:
    """Sizes of the stream.

    Attributes:
        block_bytes: Of a tensor's rows that are read at a time.
        budget_bytes: Of blocks that wait to be hashed or written: a block is counted as a part of
            the tensor, and again as parts of rank files.
    """

    block_bytes: int = DEFAULT_BLOCK_BYTES

    @property
    def budget_bytes(self) -> int:
        """As above."""
        return self.block_bytes * _BLOCKS_WAITING

    def buffer_bytes(self, num_ranks: int) -> int:
        """Of what is written into one rank's file at once; of all ranks about four blocks."""
        return max(_LEAST_BUFFER_BYTES, min(self.block_bytes, 4 * self.block_bytes // num_ranks))

    @classmethod
    def within(cls, max_memory_bytes: int | None, *, is_remote: bool = False) -> "SplitMemory":
        """Sizes with which the process stays below ``max_memory_bytes``; None is no limit.

        Raises:
            PlanError: that is less than the process itself takes.
        """
        wanted = REMOTE_BLOCK_BYTES if is_remote else DEFAULT_BLOCK_BYTES
        if max_memory_bytes is None:
            return cls(block_bytes=wanted)
        least = _PROCESS_BYTES + _BLOCKS * MIB
        if max_memory_bytes < least:
            message = f"--max-memory {max_memory_bytes} bytes; a split takes {least} bytes at least"
            raise PlanError(message, hint=f"pass --max-memory {-(-least // MIB)}MiB or more")
        room = (max_memory_bytes - _PROCESS_BYTES) // _BLOCKS
        return cls(block_bytes=min(wanted, room))


def check_fits(
    reader: TensorReader,
    infos: Mapping[str, TensorInfo],
    element: Dtype,
    max_memory_bytes: int | None,
) -> None:
    """Refuse a checkpoint whose reader has to hold a tensor that is too large, before any work.

    Raises:
        PlanError: ``max_memory_bytes`` is less than the largest tensor with its copies.
    """
    if max_memory_bytes is None or isinstance(reader, RangeReader):
        return
    largest = max(infos.values(), key=lambda info: info.size_bytes)
    copies = 2 * largest.size_bytes  # as stored and as read; each block is cast by itself
    needed = _PROCESS_BYTES + copies
    if needed > max_memory_bytes:
        message = (
            f"{largest.name!r} has to be read whole: about {needed} bytes of memory needed,"
            f" --max-memory {max_memory_bytes} in {element.name}"
        )
        raise PlanError(message, hint="convert the checkpoint to safetensors, or allow more")
