import errno
import os
import random
from pathlib import Path

import pytest

from neuronc.checkpoint.direct_file import DirectFile
from neuronc.checkpoint.tensor_info import Place

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
