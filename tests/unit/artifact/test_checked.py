"""Files that were compared with their digests are not read again until something changes."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neuronc.artifact import checked
from neuronc.artifact.checked import check_artifact_files
from neuronc.artifact.contents import digest_files
from neuronc.artifact.manifest import Manifest
from neuronc.cache.cache import Cache, open_cache
from neuronc.checkpoint.digest import FileDigest
from neuronc.errors import InputError
from neuronc.parallel.split_manifest import check_files


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each comparison read."""
    calls: list[int] = []

    def count(folder: Path, files: tuple[FileDigest, ...]) -> None:
        calls.append(len(files))
        check_files(folder, files)

    monkeypatch.setattr(checked, "check_files", count)
    return calls


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    found = open_cache(str(tmp_path / "cache"))
    assert found is not None
    return found


def make(folder: Path) -> Manifest:
    """An artifact as far as its files go."""
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "rank0").write_bytes(b"12345678")
    (folder / "program").write_bytes(b"abc")
    return Manifest(
        model={}, tp=1, batch_size=1, max_length=1, dtype="f32", target="cpu", programs=(),
        tool_versions={}, host={}, files=digest_files(folder),
    )  # fmt: skip


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can set a ctime, so the clock moves instead."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 10)


@pytest.mark.usefixtures("later")
def test_what_was_compared_is_not_read_again(tmp_path: Path, cache: Cache, read: list[int]) -> None:
    manifest = make(tmp_path / "art")
    for _ in range(3):
        check_artifact_files(tmp_path / "art", manifest, cache)
    assert read == [2]


def test_what_changed_just_before_it_was_compared_is_read_again(
    tmp_path: Path, cache: Cache, read: list[int]
) -> None:
    manifest = make(tmp_path / "art")
    for _ in range(2):
        check_artifact_files(tmp_path / "art", manifest, cache)
    assert read == [2, 2]


def same_size(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"12345679")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened


def another_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"87654321")
    other.replace(path)


def a_link(path: Path) -> None:
    path.rename(path.with_name("target"))
    path.symlink_to("target")


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", [same_size, another_file, Path.unlink])
def test_a_change_is_seen(
    change: Callable[[Path], None], tmp_path: Path, cache: Cache, read: list[int]
) -> None:
    manifest = make(tmp_path / "art")
    check_artifact_files(tmp_path / "art", manifest, cache)
    change(tmp_path / "art/weights/rank0")
    with pytest.raises(InputError, match="rank0"):
        check_artifact_files(tmp_path / "art", manifest, cache)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("stamp", ["", "{}", "[]", '{"artifact": 1, "files": {}, "at_s": "x"}'])
def test_a_damaged_stamp_says_nothing(
    stamp: str, tmp_path: Path, cache: Cache, read: list[int]
) -> None:
    manifest = make(tmp_path / "art")
    check_artifact_files(tmp_path / "art", manifest, cache)
    (path,) = (tmp_path / "cache/checked").iterdir()
    path.write_text(stamp)
    check_artifact_files(tmp_path / "art", manifest, cache)
    a_link(tmp_path / "art/program")
    check_artifact_files(tmp_path / "art", manifest, cache)
    assert read == [2, 2, 2]


def test_without_a_store_all_is_read(tmp_path: Path, read: list[int]) -> None:
    manifest = make(tmp_path / "art")
    for _ in range(2):
        check_artifact_files(tmp_path / "art", manifest, None)
    assert read == [2, 2]
