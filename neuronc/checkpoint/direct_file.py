"""Writing a large file past the page cache, so that its end is not a long wait for the disk.

Through the page cache every byte is copied into a page that has to be found first, dirty pages pile up
until somebody flushes them, and the pages of what is read are pushed out. Whole blocks that the disk
takes directly out of one small buffer cost next to nothing; only what begins or ends within a block
goes through the cache. Where the system writes nothing directly, everything does.

The disk also takes blocks from where they lie in memory, a mapped file too, if their address there
and their offset in the file are alike modulo a block: such bytes are not copied at all.
"""

import errno
import mmap
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.paths import reading
from neuronc.checkpoint.tensor_info import Place

DIRECT_BYTES = 64 << 20
"""Smaller files go through the page cache, where whoever reads them next finds them."""

BUFFER_BYTES = 4 << 20

BLOCK_BYTES = 4096
"""What offsets and addresses of direct writes are multiples of: no disk or page wants more."""

_IN_PLACE_BYTES = 256 << 10
"""Fewer are copied into the buffer: they cost less than a write of their own."""


Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class DirectFile:
    """A file that is appended to, and flushed now and then.

    Offsets and addresses of direct writes are multiples of a block: what does not fill one waits in
    the buffer, and `flush` writes it through the page cache without taking it out of the buffer.
    """

    def __init__(self, path: Path, *, start: int, is_direct: bool, buffer_bytes: int) -> None:
        """Open the existing file ``path`` to write from byte ``start`` on, its end.

        Raises:
            OSError: it cannot be opened.
        """
        size = max(buffer_bytes // BLOCK_BYTES, 1) * BLOCK_BYTES
        self._buffer = np.frombuffer(mmap.mmap(-1, size), np.uint8)  # begins with a page
        self._filled = start % BLOCK_BYTES
        self._at = start - self._filled
        self._file = os.open(path, os.O_RDWR)
        self._direct: int | None = None
        try:
            self._flushed = os.preadv(self._file, [self._buffer[: self._filled].data], self._at)
            if is_direct and hasattr(os, "O_DIRECT"):
                with suppress(OSError):  # a file system without direct writes
                    self._direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, data: "bytes | memoryview[int]", place: Place | None = None) -> None:
        """Append ``data``, whose very bytes lie at ``place`` if that is given.

        Blocks that the disk takes from where they are in memory are written from there; of the rest
        the buffer takes a copy, made by the system where there is a place.

        Raises:
            InputError: what lies at ``place`` cannot be read.
            OSError: as the system says of writing.
        """
        values = np.frombuffer(data, np.uint8)
        done = self._write_in_place(values)
        if place is not None and done < values.size:
            left = replace(place, offset=place.offset + done)
            done += self.copy(left, values.size - done)
        values = values[done:]
        while values.size:
            free = self._buffer[self._filled : self._filled + values.size]
            np.copyto(free, values[: free.size])  # lets other threads run, as a slice's = does not
            values = values[free.size :]
            self._advance(free.size)

    def copy(self, place: Place, size_bytes: int) -> int:
        """Append the bytes at ``place``; how many there were.

        Raises:
            InputError: they cannot be read.
            OSError: as the system says of writing.
        """
        with reading(place.path):
            source, copied = os.open(place.path, os.O_RDONLY), 0
        try:
            while copied < size_bytes:
                free = self._buffer[self._filled : self._filled + size_bytes - copied]
                with reading(place.path):
                    count = os.preadv(source, [free.data], place.offset + copied)
                if not count:
                    break
                copied += count
                self._advance(count)
        finally:
            os.close(source)
        return copied

    def flush(self) -> None:
        """Hand everything to the system.

        Raises:
            OSError: as the system says.
        """
        whole = self._filled // BLOCK_BYTES * BLOCK_BYTES
        if whole:
            self._put(whole)
        if self._flushed < self._filled:
            self._write_through_cache(self._buffer[: self._filled])
            self._flushed = self._filled

    def sync(self) -> None:
        """Have everything on the disk.

        Raises:
            OSError: as the system says.
        """
        self.flush()
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; what was not flushed is lost. A second call does nothing."""
        for descriptor in (self._direct, self._file):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._direct, self._file = None, -1

    def _advance(self, count: int) -> None:
        self._filled += count
        if self._filled == self._buffer.size:
            self._put(self._filled)

    def _write_in_place(self, values: Bytes) -> int:
        """How many of ``values`` were appended, most of them without a copy; 0 where that is none."""
        at = self._at + self._filled
        head = -at % BLOCK_BYTES
        whole = (values.size - head) // BLOCK_BYTES * BLOCK_BYTES
        if self._direct is None or whole < _IN_PLACE_BYTES:
            return 0
        if (values.ctypes.data - at) % BLOCK_BYTES:
            return 0
        np.copyto(self._buffer[self._filled : self._filled + head], values[:head])
        self._filled += head
        if self._filled:
            self._put(self._filled)
        self._write_blocks(values[head : head + whole])
        self._at += whole
        return head + whole

    def _put(self, size: int) -> None:
        """Write whole blocks out of the buffer, and move what is left to its beginning."""
        self._write_blocks(self._buffer[:size])
        rest = self._filled - size
        self._buffer[:rest] = self._buffer[size : self._filled]
        self._at, self._filled, self._flushed = self._at + size, rest, 0

    def _write_blocks(self, blocks: Bytes) -> None:
        if self._direct is None or not self._write_directly(blocks):
            self._write_through_cache(blocks)

    def _write_directly(self, blocks: Bytes) -> bool:
        """Whether the system took all of it so; a file system that refuses is not asked again."""
        assert self._direct is not None, "asked by the caller"
        try:
            return os.pwrite(self._direct, blocks.data, self._at) == blocks.size
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self._direct)
            self._direct = None
            return False

    def _write_through_cache(self, values: Bytes) -> None:
        done = 0
        while done < values.size:  # the system may take less than it is given
            done += os.pwrite(self._file, values[done:].data, self._at + done)
