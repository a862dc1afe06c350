"""A store in a folder: whole entries, or none."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache import entry_files, local_store
from neuronc.cache.cache import Cache
from neuronc.cache.entry import ENTRY_FILE, MAX_ENTRY_BYTES, Entry, place_of
from neuronc.cache.local_store import Damage, LocalStore
from neuronc.errors import InputError
from tests.entries import FACTS, entry_of, keep, make_files, make_key, write_raw


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "store")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def disk_full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_what_was_put_is_taken_and_is_a_copy(store: LocalStore, tmp_path: Path, out: Path) -> None:
    entry = keep(store, tmp_path / "made")
    taken = store.take(entry.key, out)
    assert taken == entry
    for name in ("cpu.exe", "merged.json"):
        assert (out / name).read_text() == (tmp_path / "made" / name).read_text()
        (out / name).write_text("changed")
    assert store.take(entry.key, out) == entry
    assert (out / "cpu.exe").read_text() == "content 0 of cpu.exe"


def test_nothing_is_there_before_something_is_kept(store: LocalStore, out: Path) -> None:
    assert store.take(make_key(), out) is None
    assert list(store.scan()) == []
    assert not store.root.exists()
    assert store.damage == []


def test_the_first_of_two_that_put_the_same_key_stays(
    store: LocalStore, tmp_path: Path, out: Path
) -> None:
    first = keep(store, tmp_path / "made")
    names = make_files(tmp_path / "other", text="other")
    assert store.put(make_key(), tmp_path / "other", names, FACTS)
    assert store.take(make_key(), out) == first
    assert (out / "cpu.exe").read_text() == "content 0 of cpu.exe"
    assert len(list(store.scan())) == 1


def test_of_two_that_finish_at_once_the_second_is_content_with_the_first(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = make_files(tmp_path / "made")
    first = entry_of(make_key(), tmp_path / "made", names)
    real = entry_files.copy_checked

    def meanwhile(*arguments: Any) -> None:
        real(*arguments)
        if not (store.root / first.place).exists():
            write_raw(store, tmp_path / "made", first)

    monkeypatch.setattr(local_store, "copy_checked", meanwhile)
    assert store.put(make_key(), tmp_path / "made", names, {"wall_s": 9.0}) is not None
    assert list(store.scan()) == [first]
    assert [p for p in store.root.rglob("*") if p.name.startswith(".")] == []


def test_an_entry_appears_only_when_it_is_whole(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def rename(self: Path, target: Path) -> Path:
        seen.append(list(store.scan()))
        os.rename(self, target)  # noqa: PTH104
        return target

    monkeypatch.setattr(Path, "rename", rename)
    keep(store, tmp_path / "made")
    assert seen == [[]]
    assert len(list(store.scan())) == 1


def test_one_that_dies_while_it_writes_leaves_no_entry(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    # Killed between the files and entry.json: nothing tidies up.
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    names = make_files(tmp_path / "made")
    assert store.put(make_key(), tmp_path / "made", names, FACTS) is None
    monkeypatch.undo()
    assert any(name.endswith("cpu.exe") for name in files_below(store.root))
    assert list(store.scan()) == []
    assert store.take(make_key(), out) is None
    keep(store, tmp_path / "made")
    assert store.take(make_key(), out) is not None


def test_a_full_disk_costs_the_keeping_and_nothing_else(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = make_files(tmp_path / "made")
    monkeypatch.setattr(local_store, "copy_checked", disk_full)
    assert store.put(make_key(), tmp_path / "made", names, FACTS) is None
    assert files_below(store.root) == []
    assert [p for p in store.root.rglob("*") if p.name.startswith(".")] == []


def test_a_full_disk_of_the_artifact_is_told_and_is_no_damage(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    keep(store, tmp_path / "made")
    opened = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "w" in mode:
            disk_full()
        return opened(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        store.take(make_key(), out)
    monkeypatch.undo()
    assert store.damage == []
    assert store.take(make_key(), out) is not None


def test_a_file_with_other_content_is_not_served_and_its_place_is_free(
    store: LocalStore, tmp_path: Path, out: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    file = store.root / entry.place / "cpu.exe"
    file.write_text(file.read_text().swapcase())  # as many bytes
    assert store.take(entry.key, out) is None
    assert list(out.iterdir()) == []
    (said,) = store.damage
    assert "cpu.exe is not the file that was kept" in said
    assert len(list((store.root / "v1" / "damaged").iterdir())) == 1
    keep(store, tmp_path / "made")
    assert store.take(entry.key, out) == entry


@pytest.mark.parametrize("missing", ["cpu.exe", ENTRY_FILE])
def test_half_an_entry_is_not_served_and_does_not_stand_in_the_way(
    store: LocalStore, tmp_path: Path, out: Path, missing: str
) -> None:
    entry = keep(store, tmp_path / "made")
    (store.root / entry.place / missing).unlink()
    assert store.take(entry.key, out) is None
    keep(store, tmp_path / "made")
    assert store.take(entry.key, out) == entry


def test_what_cannot_be_read_now_is_told_and_stays(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    opened = os.open

    def denied(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("cpu.exe") and str(store.root) in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", denied)
    assert store.take(entry.key, out) is None
    (said,) = store.damage
    assert "cannot be read" in said
    assert "Permission denied" in said
    monkeypatch.undo()
    assert store.take(entry.key, out) == entry


def test_a_store_that_cannot_be_written_is_read_all_the_same(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    entry, other = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    (store.root / other.place / "cpu.exe").write_text("damaged")
    before = files_below(store.root)
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)

    def read_only(*_: object, **__: object) -> Any:  # root may write whatever chmod says
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "utime", "rename", "unlink"):
        monkeypatch.setattr(os, name, _below(store.root, getattr(os, name), read_only))
    names = make_files(tmp_path / "made")
    with Cache(local=store).lock(entry.key):
        assert store.take(entry.key, out) == entry
        assert store.take(other.key, out) is None
        assert store.put(make_key(2), tmp_path / "made", names, FACTS) is None
    monkeypatch.undo()
    assert files_below(store.root) == before
    assert len(store.damage) == 1


def _below(root: Path, real: Any, refuse: Any) -> Any:
    def call(path: Any, *args: Any, **kwargs: Any) -> Any:
        return (refuse if str(path).startswith(str(root)) else real)(path, *args, **kwargs)

    return call


def test_taking_is_remembered_as_the_last_use(store: LocalStore, tmp_path: Path, out: Path) -> None:
    entry = keep(store, tmp_path / "made")
    os.utime(store.root / entry.place / ENTRY_FILE, (1e9, 1e9))
    assert store.last_used_s(entry) == 1e9
    store.take(entry.key, out)
    assert store.last_used_s(entry) > 1.7e9


def test_files_that_changed_since_they_were_compared_are_not_kept(
    store: LocalStore, tmp_path: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    (tmp_path / "made" / "cpu.exe").write_text("changed")
    other = LocalStore(root=tmp_path / "other")
    assert not other.adopt(entry, tmp_path / "made")
    with pytest.raises(InputError, match="is not the file that was kept"):
        other.write(entry, tmp_path / "made")
    assert list(other.scan()) == []


def test_inputs_that_no_reader_takes_are_not_kept(store: LocalStore, tmp_path: Path) -> None:
    names = make_files(tmp_path / "made")
    nested: Any = 1
    for _ in range(40):
        nested = [nested]
    for config in ("x" * MAX_ENTRY_BYTES, nested):
        key = make_key(config=config)
        assert store.put(key, tmp_path / "made", names, FACTS) is None
    assert list(store.scan()) == []


def test_a_longer_file_is_noticed_before_it_is_copied_whole(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: Path
) -> None:
    monkeypatch.setattr(entry_files, "_BLOCK_BYTES", 8)
    entry = keep(store, tmp_path / "made")
    written: list[int] = []
    place = store.root / entry.place / "cpu.exe"
    place.write_bytes(place.read_bytes() + b"x" * 10_000)
    (file,) = (file for file in entry.files if file.path == "cpu.exe")
    with pytest.raises(InputError, match="is not the file"):
        entry_files.check_file(place, file, lambda block: written.append(len(block)))
    assert sum(written) <= file.size_bytes + 8


def test_scan_tells_entries_from_damage_and_ignores_the_rest(
    store: LocalStore, tmp_path: Path
) -> None:
    entry, bad = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    (store.root / bad.place / ENTRY_FILE).unlink()
    folder = store.root / "v1" / "executable"
    for name in ("notes", entry.key.digest[:2] + "/.staging", "zz/" + entry.key.digest):
        (folder / name).mkdir(parents=True)
    found = list(store.scan())
    assert [one for one in found if isinstance(one, Entry)] == [entry]
    (damage,) = (one for one in found if isinstance(one, Damage))
    assert (damage.kind, damage.digest) == ("executable", bad.key.digest)
    assert list(store.entries("neff")) == []
    assert (store.root / bad.place).exists()  # looking changes nothing


def test_removing_takes_the_entry_and_nothing_beside_it(store: LocalStore, tmp_path: Path) -> None:
    entry, other = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    assert store.remove(entry.place)
    assert store.remove(entry.place)  # gone already
    assert list(store.scan()) == [other]
    assert list(store.root.rglob(".gone*")) == []
    assert place_of(make_key()) == entry.place
