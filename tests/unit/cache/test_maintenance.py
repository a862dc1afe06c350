"""Listing, verifying and cleaning a store."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache import maintenance
from neuronc.cache.cache import Cache, open_answering
from neuronc.cache.entry import ENTRY_FILE, Entry
from neuronc.cache.local_store import LocalStore
from neuronc.cache.maintenance import collect, list_store, verify_store
from neuronc.cache.transfer import transfer
from tests.entries import keep, make_key

HOUR_S, DAY_S = 3600.0, 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "store")


def aged(store: LocalStore, tmp_path: Path, number: int, age_s: float, **inputs: Any) -> Entry:
    """An entry that was used ``age_s`` ago."""
    entry = keep(store, tmp_path / f"made{number}", number, **inputs)
    age(store.root / entry.place / ENTRY_FILE, age_s)
    return entry


def age(path: Path, age_s: float) -> None:
    then_s = time.time() - age_s
    os.utime(path, (then_s, then_s), follow_symlinks=False)


def numbers(entries: Any) -> list[int]:
    return [one.entry.key.inputs["number"] for one in entries]


def numbers_in(store: LocalStore) -> set[int]:
    return {entry.key.inputs["number"] for entry in store.entries()}


def damage(store: LocalStore, entry: Entry) -> None:
    file = store.root / entry.place / "cpu.exe"
    file.write_text(file.read_text().swapcase())


def test_listing_tells_entries_by_last_use_and_what_else_is_there(
    store: LocalStore, tmp_path: Path
) -> None:
    for number, hours in ((1, 3), (2, 1), (3, 2)):
        aged(store, tmp_path, number, hours * HOUR_S)
    bad, aside = keep(store, tmp_path / "made", 4), keep(store, tmp_path / "made", 5)
    (store.root / bad.place / ENTRY_FILE).write_text("{}")
    damage(store, aside)
    store.take(aside.key, tmp_path)
    (store.root / "failed" / "abc").mkdir(parents=True)
    listing = list_store(store)
    assert numbers(listing.entries) == [2, 3, 1]
    assert [d.digest for d in listing.damaged] == [bad.key.digest]
    assert (listing.num_aside, listing.num_failed) == (1, 1)
    assert list_store(store, "neff").entries == ()
    assert (store.root / bad.place).exists()


def test_verify_finds_every_damaged_entry_and_removes_it_only_if_asked(
    store: LocalStore, tmp_path: Path
) -> None:
    kept = [keep(store, tmp_path / "made", number) for number in range(4)]
    damage(store, kept[1])
    (store.root / kept[2].place / ENTRY_FILE).unlink()
    (store.root / kept[3].place / "merged.json").unlink()
    found = verify_store(store)
    bad = {entry.key.digest for entry in kept[1:]}
    assert {one.digest for one in found.damaged} == bad
    assert found.removed == ()
    assert all((store.root / entry.place).exists() for entry in kept)
    assert set(verify_store(store, remove=True).removed) == bad
    again = verify_store(store)
    assert (again.num_entries, again.damaged) == (1, ())
    assert numbers_in(store) == {0}


def test_what_cannot_be_read_now_is_told_and_never_removed(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = keep(store, tmp_path / "made")
    age(store.root / entry.place, 2 * DAY_S)
    opened = os.open

    def denied(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(ENTRY_FILE):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", denied)
    found = verify_store(store, remove=True)
    assert [one.may_be_good for one in found.damaged] == [True]
    assert found.removed == ()
    assert collect(store).leftovers == ()
    monkeypatch.undo()
    assert numbers_in(store) == {0}


def test_verify_of_a_url_reads_what_is_there(
    bucket: Any, store: LocalStore, tmp_path: Path
) -> None:
    kept = [keep(store, tmp_path / "made", number) for number in range(3)]
    remote = open_answering("s3://models/team")
    transfer(store, remote)
    bucket.Object(f"team/{kept[0].place}/cpu.exe").put(Body=b"CONTENT 0 of cpu.exe")
    bucket.Object(f"team/{kept[1].place}/{ENTRY_FILE}").put(Body=b"{}")
    bad = {kept[0].key.digest, kept[1].key.digest}
    assert {one.digest for one in verify_store(remote).damaged} == bad
    assert set(verify_store(remote, remove=True).removed) == bad
    assert list(remote.scan()) == [kept[2]]
    assert len(list(bucket.objects.all())) == 3
    assert transfer(store, remote).there == 1  # and the next push repairs it
    assert verify_store(remote).damaged == ()


def test_the_least_recently_used_go_first_until_the_rest_fits(
    store: LocalStore, tmp_path: Path
) -> None:
    entries = [aged(store, tmp_path, n, hours * HOUR_S) for n, hours in enumerate((5, 9, 1, 7))]
    two = sum(entry.size_bytes for entry in entries[:2])
    found = collect(store, max_bytes=two)
    assert numbers(found.removed) == [1, 3]
    assert numbers_in(store) == {0, 2}
    assert (found.kept_entries, found.kept_bytes) == (2, two)
    assert collect(store, max_bytes=two).removed == ()


def test_what_was_not_used_for_long_goes(store: LocalStore, tmp_path: Path) -> None:
    for number, days in enumerate((40, 20, 31)):
        aged(store, tmp_path, number, days * DAY_S)
    assert numbers(collect(store, older_than_s=30 * DAY_S, dry_run=True).removed) == [0, 2]
    assert numbers_in(store) == {0, 1, 2}
    assert numbers(collect(store, older_than_s=30 * DAY_S).removed) == [0, 2]
    assert numbers_in(store) == {1}


def test_without_limits_no_entry_goes(store: LocalStore, tmp_path: Path) -> None:
    aged(store, tmp_path, 0, 1000 * DAY_S)
    assert collect(store).removed == ()


def test_what_was_used_a_moment_ago_stays_whatever_the_limit(
    store: LocalStore, tmp_path: Path
) -> None:
    aged(store, tmp_path, 0, maintenance.GRACE_S - 60)
    aged(store, tmp_path, 1, maintenance.GRACE_S + 60)
    assert numbers(collect(store, max_bytes=1, older_than_s=1, dry_run=True).removed) == [1]
    found = collect(store, max_bytes=1, older_than_s=1)
    assert numbers(found.removed) == [1]
    assert found.kept_bytes > 1


def test_what_is_being_made_stays(store: LocalStore, tmp_path: Path) -> None:
    held, free = (aged(store, tmp_path, number, DAY_S) for number in range(2))
    with Cache(local=store).lock(held.key):
        assert numbers(collect(store, max_bytes=1).removed) == [1]
        assert numbers_in(store) == {0}
    assert numbers(collect(store, max_bytes=1).removed) == [0]
    assert not (store.root / free.place).exists()


def test_what_is_taken_while_cleaning_stays(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = aged(store, tmp_path, 0, DAY_S)
    entries = LocalStore.entries

    def taken_meanwhile(self: LocalStore, kind: Any = None) -> Any:
        found = list(entries(self, kind))
        ages = self.last_used_s

        def last_used_s(one: Entry) -> float:
            age_s = ages(one)
            store.take(entry.key, tmp_path)
            return age_s

        monkeypatch.setattr(LocalStore, "last_used_s", lambda _, one: last_used_s(one))
        return found

    monkeypatch.setattr(LocalStore, "entries", taken_meanwhile)
    assert collect(store, max_bytes=1).removed == ()
    monkeypatch.undo()
    assert numbers_in(store) == {0}


def leave(store: LocalStore, tmp_path: Path) -> list[Path]:
    """One of each thing that is left behind."""
    bad, aside = keep(store, tmp_path / "made", 7), keep(store, tmp_path / "made", 8)
    (store.root / bad.place / ENTRY_FILE).unlink()
    damage(store, aside)
    store.take(aside.key, tmp_path)
    with Cache(local=store).lock(make_key(9)):
        pass
    failed = store.root / "failed" / "abc"
    staging = (store.root / bad.place).with_name(".abc.staging")
    for folder in (failed, staging):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (aside_folder,) = (store.root / "v1" / "damaged").iterdir()
    (lock,) = (store.root / "locks").iterdir()
    return [store.root / bad.place, aside_folder, failed, lock, staging]


def test_leftovers_go_after_a_day(store: LocalStore, tmp_path: Path) -> None:
    good = keep(store, tmp_path / "made", 1)
    left = leave(store, tmp_path)
    assert collect(store).leftovers == ()
    for path in left:
        age(path, maintenance.LEFTOVER_S + 60)
    names = {str(path.relative_to(store.root)) for path in left}
    assert set(collect(store, dry_run=True).leftovers) == names
    assert all(path.exists() for path in left)
    assert set(collect(store).leftovers) == names
    assert not any(path.exists() for path in left)
    assert list(store.scan()) == [good]


def test_a_lock_that_is_held_stays_however_old(store: LocalStore, tmp_path: Path) -> None:
    with Cache(local=store).lock(make_key()):
        for path in (store.root / "locks").iterdir():
            age(path, 10 * DAY_S)
        assert collect(store).leftovers == ()
        assert len(list((store.root / "locks").iterdir())) == 2


def test_leftovers_that_are_links_go_and_what_they_lead_to_stays(
    store: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (store.root / "failed").mkdir(parents=True)
    link = store.root / "failed" / "link"
    link.symlink_to(tmp_path / "mine")
    age(link, 2 * DAY_S)
    assert collect(store).leftovers == ("failed/link",)
    assert (tmp_path / "mine" / "file").exists()


def test_a_store_whose_folders_lead_elsewhere_is_cleaned_no_further(
    store: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    age(tmp_path / "mine" / "file", 10 * DAY_S)
    store.root.mkdir()
    for name in ("failed", "locks"):
        (store.root / name).symlink_to(tmp_path / "mine")
    assert collect(store).leftovers == ()
    assert (tmp_path / "mine" / "file").exists()
