import errno
import mmap
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

from neuronc.checkpoint.direct_file import DirectFile
from neuronc.checkpoint.tensor_info import Place
from neuronc.errors import InputError

BLOCK = 4096


def open_new(path: Path, *, is_direct: bool = True, buffer_bytes: int = 4 * BLOCK) -> DirectFile:
    path.touch()
    start = path.stat().st_size
    return DirectFile(path, start=start, is_direct=is_direct, buffer_bytes=buffer_bytes)


@pytest.mark.parametrize("is_direct", [True, False])
@pytest.mark.parametrize("buffer_bytes", [1, BLOCK, 5 * BLOCK])
def test_whatever_the_pieces_the_file_is_their_sum(
    tmp_path: Path, is_direct: bool, buffer_bytes: int
) -> None:
    rng = random.Random(0)
    source, path = tmp_path / "source", tmp_path / "file"
    source.write_bytes(rng.randbytes(10 * BLOCK))
    expected = bytearray()
    for _ in range(6):  # opened again at whatever byte it ended
        file = open_new(path, is_direct=is_direct, buffer_bytes=buffer_bytes)
        for _ in range(8):
            size = rng.choice([0, 1, 7, BLOCK - 1, BLOCK, rng.randrange(4 * BLOCK)])
            if rng.random() < 0.5:
                data = rng.randbytes(size)
                file.write(data)
                expected += data
            else:
                offset = rng.randrange(6 * BLOCK)
                assert file.copy(Place(path=source, offset=offset), size) == size
                expected += source.read_bytes()[offset : offset + size]
            if rng.random() < 0.3:
                file.flush()
                assert path.read_bytes() == expected
        file.sync()
        file.close()
        file.close()
        assert path.read_bytes() == expected


def at_offset(data: bytes, offset: int) -> memoryview:
    """``data`` in memory at ``offset`` beyond the beginning of a block."""
    memory = memoryview(mmap.mmap(-1, offset + len(data) + BLOCK))
    memory[offset : offset + len(data)] = data
    return memory[offset : offset + len(data)]


@pytest.mark.parametrize("begin", [0, 1, 1234, BLOCK - 1])
@pytest.mark.parametrize("apart", [0, 8, 2048])
@pytest.mark.parametrize("size", [70 * BLOCK, 70 * BLOCK + 5, 3 * BLOCK])
def test_bytes_that_lie_as_in_the_file_are_written_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: int, apart: int, size: int
) -> None:
    written: list[tuple[int, int]] = []
    real = os.pwrite

    def noted(descriptor: int, data: memoryview, offset: int) -> int:
        written.append((np.frombuffer(data, np.uint8).ctypes.data, len(data)))
        return real(descriptor, data, offset)

    first, data = random.Random(0).randbytes(begin), random.Random(1).randbytes(size)
    lying = at_offset(data, (begin + apart) % BLOCK)
    file = open_new(tmp_path / "file")
    file.write(first)
    monkeypatch.setattr(os, "pwrite", noted)
    file.write(lying)
    file.write(b"end")
    file.sync()
    assert (tmp_path / "file").read_bytes() == first + data + b"end"
    begins = np.frombuffer(lying, np.uint8).ctypes.data
    in_place = [length for at, length in written if begins <= at < begins + size]
    head = -begin % BLOCK
    whole = (size - head) // BLOCK * BLOCK
    assert in_place == ([whole] if apart == 0 and size > 64 * BLOCK else [])


def test_a_mapped_file_is_written_from_where_it_is_mapped(tmp_path: Path) -> None:
    source, data = tmp_path / "source", random.Random(0).randbytes(200 * BLOCK + 77)
    source.write_bytes(data)
    file = open_new(tmp_path / "file")
    file.write(data[:100])
    with source.open("rb") as opened:
        mapped = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    file.write(mapped[100:], Place(path=source, offset=100))
    file.sync()
    assert (tmp_path / "file").read_bytes() == data


def test_a_file_system_without_direct_writes_gets_them_through_the_cache_from_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def refuse(descriptor: int, data: memoryview, offset: int) -> int:
        if file._direct == descriptor:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(descriptor, data, offset)

    data = random.Random(0).randbytes(150 * BLOCK + 9)
    file = open_new(tmp_path / "file")
    monkeypatch.setattr(os, "pwrite", refuse)
    file.write(b"begin")
    file.write(at_offset(data, 5))
    file.write(b"end")
    file.sync()
    assert (tmp_path / "file").read_bytes() == b"begin" + data + b"end"


def test_a_place_that_ends_early_gives_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"0123456789")
    file = open_new(tmp_path / "file")
    assert file.copy(Place(path=tmp_path / "source", offset=7), 5) == 3
    file.sync()
    assert (tmp_path / "file").read_bytes() == b"789"


def test_whole_blocks_are_written_directly_and_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, real = [], os.pwrite

    def noted(descriptor: int, data: memoryview, offset: int) -> int:
        writes.append((len(data), offset))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    file = open_new(tmp_path / "file")
    file.write(bytes(5 * BLOCK + 3))
    assert writes == [(4 * BLOCK, 0)]
    file.flush()
    file.flush()
    assert writes[1:] == [(BLOCK, 4 * BLOCK), (3, 5 * BLOCK)]


def test_a_place_that_cannot_be_read_is_no_fault_of_the_file_written(tmp_path: Path) -> None:
    file = open_new(tmp_path / "out")
    for path in (tmp_path / "gone", tmp_path):
        with pytest.raises(InputError, match=f"cannot read {re.escape(str(path))}: "):
            file.copy(Place(path=path, offset=0), BLOCK)
    file.close()


@pytest.mark.parametrize("opens", [True, False])
def test_a_file_system_that_writes_nothing_directly_gets_it_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    refused, real_open, real_write = [], os.open, os.pwrite

    def refuse(descriptor: int) -> None:
        refused.append(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def open_or_not(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT and not opens:
            refuse(-1)
        return real_open(path, flags & ~os.O_DIRECT, *mode)

    def write(descriptor: int, data: memoryview, offset: int) -> int:
        if file._direct == descriptor:
            refuse(descriptor)
        return real_write(descriptor, data, offset)

    monkeypatch.setattr(os, "open", open_or_not)
    monkeypatch.setattr(os, "pwrite", write)
    data = random.Random(0).randbytes(9 * BLOCK)
    file = open_new(tmp_path / "file")
    file.write(data)
    file.sync()
    assert (tmp_path / "file").read_bytes() == data
    assert len(refused) == 1  # and then no more


def test_a_direct_write_that_took_a_part_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def some(descriptor: int, data: memoryview, offset: int) -> int:
        return real(descriptor, data[: max(len(data) // 2 // BLOCK, 1) * BLOCK], offset)

    monkeypatch.setattr(os, "pwrite", some)
    data = random.Random(0).randbytes(9 * BLOCK)
    file = open_new(tmp_path / "file")
    file.write(data)
    file.sync()
    assert (tmp_path / "file").read_bytes() == data


def test_another_error_of_a_direct_write_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    file = open_new(tmp_path / "file")
    with pytest.raises(OSError, match="No space"):
        file.write(bytes(4 * BLOCK))
