"""What an entry.json may hold, and what becomes of one that holds something else."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.entry import (
    ENTRY_FILE,
    MAX_ENTRY_BYTES,
    DamagedEntryError,
    entry_text,
    parse_entry,
    place_of,
    read_entry,
)
from neuronc.cache.key import KINDS, Key, Kind
from neuronc.cache.local_store import LocalStore
from tests.entries import edit_entry, entry_of, keep, make_files, make_key, write_raw

Told = dict[str, Any]
_ATTACKS: list[Callable[[Told], None]] = []


def _attack(change: Callable[[Told], None]) -> Callable[[Told], None]:
    _ATTACKS.append(change)
    return change


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(root=tmp_path / "store")


def refused(store: LocalStore, key: Key, tmp_path: Path) -> str:
    """What a store says of the entry of ``key``, of which nothing comes out."""
    out = tmp_path / "out"
    out.mkdir()
    assert store.take(key, out) is None
    assert list(out.iterdir()) == []
    assert not (store.root / place_of(key)).exists()  # put aside
    (said,) = store.damage
    return said


@_attack
def _no_files(told: Told) -> None:
    told["files"] = []


@_attack
def _one_missing(told: Told) -> None:
    told["files"].pop()


@_attack
def _one_twice(told: Told) -> None:
    told["files"].append(told["files"][0])


@_attack
def _foreign_name(told: Told) -> None:
    told["files"].append({**told["files"][0], "path": "evil.so"})


@_attack
def _outside(told: Told) -> None:
    told["files"][0]["path"] = "../../../../../outside"


@_attack
def _absolute(told: Told) -> None:
    told["files"][0]["path"] = "/etc/passwd"


@_attack
def _name_of_another_type(told: Told) -> None:
    told["files"][0]["path"] = ["cpu.exe"]


@_attack
def _another_field(told: Told) -> None:
    told["files"][0]["mode"] = "777"


@_attack
def _size_is_text(told: Told) -> None:
    told["files"][0]["size_bytes"] = "1"


@_attack
def _size_is_negative(told: Told) -> None:
    told["files"][0]["size_bytes"] = -1


@_attack
def _size_is_huge(told: Told) -> None:
    told["files"][0]["size_bytes"] = 10**400


@_attack
def _size_is_true(told: Told) -> None:
    told["files"][0]["size_bytes"] = True


@_attack
def _short_digest(told: Told) -> None:
    told["files"][0]["sha256"] = "abc"


@_attack
def _other_inputs(told: Told) -> None:
    told["inputs"]["number"] = 7


@_attack
def _inputs_are_a_list(told: Told) -> None:
    told["inputs"] = []


@_attack
def _facts_are_text(told: Told) -> None:
    told["facts"] = "fast"


@_attack
def _nan_input(told: Told) -> None:
    told["inputs"]["number"] = float("nan")


@_attack
def _infinite_fact(told: Told) -> None:
    told["facts"]["wall_s"] = float("inf")


@_attack
def _nested_nan(told: Told) -> None:
    told["facts"]["more"] = [float("nan")]


@_attack
def _other_format(told: Told) -> None:
    told["format"] = 2


@_attack
def _format_is_true(told: Told) -> None:
    told["format"] = True


@_attack
def _other_kind(told: Told) -> None:
    told["kind"] = "../neff"


@_attack
def _kind_is_a_list(told: Told) -> None:
    told["kind"] = ["executable"]


@_attack
def _no_inputs(told: Told) -> None:
    del told["inputs"]


@pytest.mark.parametrize("change", _ATTACKS, ids=lambda change: change.__name__.strip("_"))
def test_an_entry_that_is_not_as_it_should_be_is_never_served(
    store: LocalStore, tmp_path: Path, change: Callable[[Told], None]
) -> None:
    keep(store, tmp_path / "made")
    outside = tmp_path / "outside"
    outside.write_text("mine")
    path = edit_entry(store, make_key(), change)
    with pytest.raises(DamagedEntryError):  # before any of its files is looked at
        read_entry(path)
    assert "damaged and is not used" in refused(store, make_key(), tmp_path)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"format": 1e999}',
        b"[" * 100_000,
        b'{"format":1,"kind":"executable","files":[],"facts":{},"inputs":' + b'{"a":' * 900,
        b" " * (MAX_ENTRY_BYTES + 1),
    ],
    ids=range(9),
)
def test_a_file_that_is_no_entry_at_all_is_damage(
    store: LocalStore, tmp_path: Path, text: bytes
) -> None:
    keep(store, tmp_path / "made")
    (store.root / place_of(make_key()) / ENTRY_FILE).write_bytes(text)
    assert "is not used" in refused(store, make_key(), tmp_path)


def test_a_number_too_large_for_a_float_is_damage(store: LocalStore, tmp_path: Path) -> None:
    entry = keep(store, tmp_path / "made")
    path = store.root / entry.place / ENTRY_FILE
    path.write_text(path.read_text().replace('"wall_s": 1.5', '"wall_s": 1e999'))
    assert "no finite number" in refused(store, entry.key, tmp_path)


@pytest.mark.parametrize("name", ["evil.so", "../../../../../outside", "/ABS"])
def test_a_file_of_another_name_never_comes_out_even_if_it_is_there(
    store: LocalStore, tmp_path: Path, name: str
) -> None:
    entry = keep(store, tmp_path / "made")
    outside = tmp_path / "outside"
    for path in (outside, store.root / entry.place / "evil.so"):
        path.write_text("content 0 of cpu.exe")
    name = name.replace("/ABS", str(outside))
    (named,) = ({**asdict(f), "path": name} for f in entry.files if f.path == "cpu.exe")
    edit_entry(store, entry.key, lambda told: told["files"].append(named))
    assert "file FileDigest" in refused(store, entry.key, tmp_path)
    assert outside.exists()


def test_an_entry_larger_than_any_of_ours_is_damage(tmp_path: Path) -> None:
    entry = entry_of(make_key(), tmp_path, make_files(tmp_path))
    large = replace(entry, facts={"what": "x" * MAX_ENTRY_BYTES})
    with pytest.raises(DamagedEntryError, match="more than"):
        parse_entry(entry_text(large).encode(), named=entry.key.digest, subject="x")


@pytest.mark.parametrize("depth", [20, 40, 480, 900])
def test_inputs_nested_too_deep_are_damage_and_no_crash(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = {"a": nested}
    told = {"format": 1, "kind": "verification", "inputs": {"x": nested}, "facts": {}}
    told["files"] = [{"path": "verification.json", "size_bytes": 1, "sha256": "0" * 64}]
    digest = Key(kind="verification", inputs=told["inputs"]).digest  # type: ignore[arg-type]
    raw = json.dumps(told).encode()
    if depth > 32:
        with pytest.raises(DamagedEntryError, match="nested deeper"):
            parse_entry(raw, named=digest, subject="x")
    else:
        assert parse_entry(raw, named=digest, subject="x").key.inputs["x"] == nested


def test_an_entry_under_another_s_name_is_damage(store: LocalStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "made")
    there = store.root / place_of(make_key(1))
    there.parent.mkdir(parents=True, exist_ok=True)
    os.rename(store.root / place_of(make_key()), there)  # noqa: PTH104
    said = refused(store, make_key(1), tmp_path)
    assert make_key().digest[:16] in said


@pytest.mark.parametrize("which", ["entry", "file", "folder"])
def test_links_are_damage_and_what_they_lead_to_stays(
    store: LocalStore, tmp_path: Path, which: str
) -> None:
    entry = keep(store, tmp_path / "made")
    place = store.root / entry.place
    path = {"entry": place / ENTRY_FILE, "file": place / "cpu.exe", "folder": place}[which]
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "link" in refused(store, entry.key, tmp_path)
    assert elsewhere.exists()


def test_a_pipe_in_place_of_a_file_is_damage_and_does_not_block(
    store: LocalStore, tmp_path: Path
) -> None:
    entry = keep(store, tmp_path / "made")
    for name in ("cpu.exe", ENTRY_FILE):
        path = store.root / entry.place / name
        path.unlink()
        os.mkfifo(path)
        (tmp_path / name).mkdir()
        assert store.take(entry.key, tmp_path / name) is None
        keep(store, tmp_path / "made")  # the next one can be kept
    assert len(store.damage) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_entry_is_read_as_it_was_written(tmp_path: Path, kind: Kind) -> None:
    names = make_files(tmp_path, kind)
    entry = entry_of(make_key(kind=kind), tmp_path, names)
    (tmp_path / entry.key.digest).mkdir()
    path = tmp_path / entry.key.digest / ENTRY_FILE
    path.write_text(entry_text(entry))
    assert read_entry(path) == entry


@pytest.mark.parametrize("target", ["cpu", "inf2"])
def test_a_lowered_program_for_neuron_needs_its_legalised_form(
    store: LocalStore, tmp_path: Path, target: str
) -> None:
    names = make_files(tmp_path / "made", "lowered")
    names.remove("neuron.hlo.pb")
    entry = entry_of(make_key(kind="lowered", target=target), tmp_path / "made", names)
    write_raw(store, tmp_path / "made", entry)
    assert (store.find(entry.key) is not None) == (target == "cpu")
