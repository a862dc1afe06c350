"""The unfinished folder of a split, left or made by somebody else: nothing leaves it."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronc.errors import NeuroncError, UsageError
from neuronc.parallel.split_journal import JOURNAL_FILE, Done, Journal
from neuronc.progress import SILENT

FIRST = {"journal_format": 1, "request": {}}
RANK = "rank-0.safetensors"


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    folder = tmp_path / ".out.partial"
    folder.mkdir()
    (folder / RANK).write_bytes(b"abc")
    return folder


def line(path: str = RANK, content: bytes = b"abc", **fields: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    file = {"path": path, "size_bytes": len(content), "sha256": sha256}
    return {"num_tensors": 1, "digests": {"a": "0"}, "files": [file], **fields}


def write(folder: Path, *lines: object) -> None:
    text = "".join(json.dumps(entry) + "\n" for entry in lines)
    (folder / JOURNAL_FILE).write_text(text)


def restore(folder: Path, *paths: str) -> Done:
    journal = Journal(folder, {})
    try:
        return journal.restore(SILENT, lambda _: set(paths or (RANK,)))
    finally:
        journal.close()


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").write_bytes(b"abc")
    return tmp_path / "home" / "file"


def test_a_journal_of_ours_is_gone_on_with(partial: Path) -> None:
    write(partial, FIRST, line())
    assert restore(partial).num_tensors == 1
    assert (partial / RANK).read_bytes() == b"abc"


def test_a_journal_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(
    partial: Path, precious: Path
) -> None:
    (partial / JOURNAL_FILE).symlink_to(precious)
    with pytest.raises(UsageError, match="is in the way"):
        restore(partial)
    assert precious.read_bytes() == b"abc"
    assert (partial / RANK).exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_journal_that_is_no_file_is_refused(partial: Path, make: Callable[[Path], None]) -> None:
    make(partial / JOURNAL_FILE)
    with pytest.raises(UsageError, match="is in the way"):
        restore(partial)


def test_a_folder_of_other_files_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"in the way: it holds 'thesis.tex', and no journal"):
        restore(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_split_that_was_killed_before_it_got_its_name_begins_anew(partial: Path) -> None:
    (partial / "split.json").write_text("{}")
    assert restore(partial) == Done()
    assert [path.name for path in partial.iterdir()] == [JOURNAL_FILE]


@pytest.mark.parametrize("name", [RANK, f"{RANK}.part", "config.json"])
def test_a_link_in_the_place_of_a_file_is_never_written_through(
    partial: Path, precious: Path, name: str
) -> None:
    (partial / RANK).unlink()
    (partial / name).symlink_to(precious)
    path = name.removesuffix(".part")
    write(partial, FIRST, line(path))
    assert restore(partial, path) == Done()
    assert not (partial / name).is_symlink()
    assert precious.read_bytes() == b"abc"


def test_a_linked_folder_is_not_gone_into(partial: Path, precious: Path) -> None:
    (partial / "weights").symlink_to(precious.parent)
    write(partial, FIRST, line("weights/file"))
    assert restore(partial, "weights/file") == Done()
    assert not os.path.lexists(partial / "weights")
    assert precious.read_bytes() == b"abc"


def test_a_link_beside_what_is_gone_on_with_is_deleted(partial: Path, precious: Path) -> None:
    (partial / f"{RANK}.part").symlink_to(precious)
    (partial / "empty" / "folders").mkdir(parents=True)
    write(partial, FIRST, line())
    assert restore(partial).num_tensors == 1
    assert {path.name for path in partial.iterdir()} == {JOURNAL_FILE, RANK}
    assert precious.exists()


@pytest.mark.parametrize(
    "path", ["../home/file", "/etc/passwd", "", ".", "a/../b", "\0", "x" * 300]
)
def test_a_path_that_leaves_the_folder_is_not_even_read(
    partial: Path, precious: Path, path: str
) -> None:
    write(partial, FIRST, line(path))
    assert restore(partial, path) == Done()
    assert precious.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"num_tensors": "1"}, {"num_tensors": True}, {"num_tensors": -1}, {"num_tensors": 1.5},
        {"num_tensors": None}, {"digests": {"a": 5}}, {"digests": [["a", 5]]}, {"digests": 5},
        {"files": []}, {"files": None}, {"files": [{"path": RANK}]},
        {"files": [{"path": 5, "size_bytes": 3, "sha256": ""}]},
        {"files": [{"path": RANK, "size_bytes": -3, "sha256": ""}]},
        {"files": [{"path": RANK, "size_bytes": True, "sha256": ""}]},
        {"files": [{"path": RANK, "size_bytes": 10**30, "sha256": ""}]},
        {"files": [{"path": RANK, "size_bytes": 3, "sha256": ["x"]}]},
        {"files": [{"path": "rank-1.safetensors", "size_bytes": 0, "sha256": ""}]},
    ],
)  # fmt: skip
def test_a_line_that_makes_no_sense_begins_anew(partial: Path, fields: dict[str, Any]) -> None:
    write(partial, FIRST, line(**fields))
    assert restore(partial) == Done()
    assert [path.name for path in partial.iterdir()] == [JOURNAL_FILE]


def test_a_journal_of_more_files_than_its_tensors_need_begins_anew(partial: Path) -> None:
    write(partial, FIRST, line())
    assert restore(partial, RANK, "rank-1.safetensors") == Done()


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"9" * 5000 + b"\n"])
def test_bytes_that_are_no_journal_begin_anew(partial: Path, data: bytes) -> None:
    (partial / JOURNAL_FILE).write_bytes(json.dumps(FIRST).encode() + b"\n" + data)
    assert restore(partial) == Done()


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_journal_with_any_bytes_changed_ends_in_no_traceback(
    partial: Path, data: st.DataObject
) -> None:
    (partial / RANK).write_bytes(b"abc")
    write(partial, FIRST, line(), line(num_tensors=2))
    raw = bytearray((partial / JOURNAL_FILE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(raw)))
        stop = data.draw(st.integers(start, min(len(raw), start + 30)))
        raw[start:stop] = data.draw(st.binary(max_size=4) | st.sampled_from([b"NaN", b"-1", b"[["]))
    (partial / JOURNAL_FILE).write_bytes(raw)
    try:
        done = restore(partial)
    except NeuroncError:
        return
    assert done.num_tensors >= 0
