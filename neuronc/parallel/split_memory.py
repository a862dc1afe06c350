"""How much memory a split may take, and what it does with it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.process_memory import peak_rss_bytes
from neuronc.checkpoint.tensor_info import TensorInfo, TensorReader
from neuronc.errors import PlanError
from neuronc.parallel.split_options import SplitOptions

MIB = 1 << 20
DEFAULT_BLOCK_BYTES = 16 * MIB
"""Of smaller ones there are so many that threads wait for each other: 4 MiB take a tenth longer."""

REMOTE_BLOCK_BYTES = 32 * MIB
"""Behind a URL every block is a request, and another that asks whether the file is still the same."""

_PROCESS_BYTES = 128 * MIB
"""What the interpreter with numpy takes, and the manifest of a large model: 70 to 100 MB measured."""

_TORCH_BYTES = 256 * MIB
"""What torch takes once it is imported."""

_COPIES = 3
"""Of a tensor that is read whole: as stored, as read, and what a format does in between."""

_BLOCKS_WAITING = 4

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
        room = (max_memory_bytes - max(_PROCESS_BYTES, peak_rss_bytes())) // _BLOCKS
        return cls(block_bytes=max(MIB, min(wanted, room)))


def check_fits(
    reader: TensorReader, infos: Mapping[str, TensorInfo], options: SplitOptions
) -> None:
    """Refuse a checkpoint that takes more memory than is allowed, before any work.

    That is where a tensor has to be held whole, with its copies, or where torch was imported, which
    alone takes more than the rest.

    Raises:
        PlanError: ``options.max_memory_bytes`` is less than that.
    """
    allowed = options.max_memory_bytes
    if allowed is None:
        return
    is_unsharded = options.layout == "transformers-neuronx"
    process_bytes = max(_PROCESS_BYTES, peak_rss_bytes())
    if is_unsharded and "torch" not in sys.modules:
        process_bytes += _TORCH_BYTES
    largest = max(infos.values(), key=lambda info: info.size_bytes)
    is_whole = is_unsharded or not isinstance(reader, RangeReader)
    held = _COPIES * largest.size_bytes if is_whole else _BLOCKS * MIB
    needed = process_bytes + held
    if needed > allowed:
        of_what = f", {largest.name!r} whole among it" if is_whole else ""
        message = f"--max-memory {allowed} bytes; a split takes about {needed} bytes{of_what}"
        hint = f"pass --max-memory {-(-needed // MIB)}MiB or more"
        if is_whole or "torch" in sys.modules:
            hint += ", or convert the checkpoint to safetensors"
        raise PlanError(message, hint=hint)
