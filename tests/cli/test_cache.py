"""neuronc cache: reports, exit codes and refusals; the work behind it is tested in unit/cache."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.entry import ENTRY_FILE
from neuronc.cache.local_store import LocalStore
from neuronc.cli.app import main
from tests.entries import FACTS, keep, make_files, make_job
from tests.places import bucket, memory, s3_server

__all__ = ["bucket", "memory", "s3_server"]

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    monkeypatch.setenv("NEURONC_CACHE", str(tmp_path / "store"))
    return LocalStore(root=tmp_path / "store")


def report(capsys: Capture, *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["cache", *arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["command"] == f"cache {arguments[0]}"
    return document


def text(capsys: Capture, *arguments: str, code: int = 0) -> str:
    assert main(["cache", *arguments, "--quiet"]) == code
    return capsys.readouterr().out


def damage(store: LocalStore, place: str) -> None:
    (store.root / place / ENTRY_FILE).write_text("{}")


def test_ls_says_what_is_kept_in_words_and_in_json(
    store: LocalStore, tmp_path: Path, capsys: Capture
) -> None:
    from neuronc.cache.program_keys import lowered_key

    keep(store, tmp_path / "made")
    key = lowered_key(make_job(target="inf2"))
    names = make_files(tmp_path / "lowered", "lowered")
    assert store.put(key, tmp_path / "lowered", names, FACTS)
    said = text(capsys, "ls")
    assert "decode_64, tp 2, f32, llama, batch 2, length 64, inf2" in said
    assert "1.5 s" in said
    assert key.digest[:12] in said
    assert "1 entries" in said
    data = report(capsys, "ls")["data"]
    assert [entry["kind"] for entry in data["entries"]] == ["lowered", "executable"]
    assert data["entries"][0]["inputs"]["config"]["hidden_size"] == 32
    assert data["totals"]["executable"]["entries"] == 1
    assert len(report(capsys, "ls", "--kind", "lowered")["data"]["entries"]) == 1


def test_ls_of_nothing_makes_nothing(store: LocalStore, capsys: Capture) -> None:
    assert "none" in text(capsys, "ls")
    assert not store.root.exists()


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"created_at": 5, "wall_s": "x", "what": "[red]\x1b[2J\x07"},
        {"created_at": "yesterday", "wall_s": None, "what": "x" * 10_000},
        {"created_at": "2026-01-02T03:04:05"},
    ],
)
def test_ls_draws_whatever_an_entry_says_of_itself(
    store: LocalStore, tmp_path: Path, capsys: Capture, facts: dict[str, Any]
) -> None:
    from tests.entries import make_key

    names = make_files(tmp_path / "made")
    assert store.put(make_key(), tmp_path / "made", names, facts)
    said = text(capsys, "ls")
    assert make_key().digest[:12] in said
    assert "\x1b" not in said
    assert len(said) < 3000


def test_verify_exits_3_for_damage_and_0_once_it_is_taken_away(
    store: LocalStore, tmp_path: Path, capsys: Capture
) -> None:
    entry = keep(store, tmp_path / "made")
    assert report(capsys, "verify")["data"]["damaged"] == []
    damage(store, entry.place)
    found = report(capsys, "verify", code=3)
    assert found["data"]["damaged"][0]["digest"] == entry.key.digest
    assert entry.key.digest in found["error"]["message"]
    assert "verify --remove" in found["error"]["hint"]
    removed = report(capsys, "verify", "--remove")
    assert removed["data"]["removed"] == [entry.key.digest]
    assert entry.key.digest in removed["warnings"][0]
    assert report(capsys, "verify")["data"]["entries"] == 0


def test_gc_says_what_goes_and_why_more_stays_than_asked(
    store: LocalStore, tmp_path: Path, capsys: Capture
) -> None:
    old, new = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    then_s = time.time() - 40 * 86_400
    os.utime(store.root / old.place / ENTRY_FILE, (then_s, then_s))
    planned = report(capsys, "gc", "--older-than", "30d", "--dry-run")["data"]
    assert [entry["key"] for entry in planned["removed"]] == [old.key.digest]
    assert "would go" in text(capsys, "gc", "--older-than", "30d", "--dry-run")
    done = report(capsys, "gc", "--max-size", "1B")
    assert [entry["key"] for entry in done["data"]["removed"]] == [old.key.digest]
    assert done["data"]["kept_bytes"] == new.size_bytes
    assert "is not removed" in done["warnings"][0]
    assert "gone" in text(capsys, "gc")


@pytest.mark.parametrize(
    ("option", "value"), [("--older-than", "soon"), ("--older-than", "30"), ("--max-size", "0")]
)
def test_gc_names_an_option_that_it_cannot_read(
    store: LocalStore, capsys: Capture, option: str, value: str
) -> None:
    assert option in report(capsys, "gc", option, value, code=2)["error"]["message"]


def test_gc_of_a_url_is_refused(memory: Any, capsys: Capture) -> None:
    said = report(capsys, "gc", "--cache", "memory://team", code=2)["error"]
    assert "a cache in a folder" in said["message"]


def test_push_and_pull_count_what_they_copy(
    store: LocalStore, tmp_path: Path, bucket: Any, capsys: Capture
) -> None:
    entry = keep(store, tmp_path / "made")
    keep(store, tmp_path / "neff", 1, "neff")
    pushed = report(capsys, "push", "s3://models/team", "--kind", "executable")["data"]
    assert (pushed["copied"], pushed["copied_bytes"]) == (1, entry.size_bytes)
    assert report(capsys, "push", "s3://models/team")["data"]["there_before"] == 1
    second = str(tmp_path / "second")
    pulled = report(capsys, "pull", "s3://models/team", "--cache", second)["data"]
    assert pulled["copied_by_kind"]["neff"]["entries"] == 1
    assert pulled["from"] == "s3://models/team"
    assert "2 entries" in text(capsys, "pull", "s3://models/team", "--cache", second)
    assert len(report(capsys, "ls", "--cache", "s3://models/team")["data"]["entries"]) == 2
    assert report(capsys, "verify", "--cache", "s3://models/team")["data"]["entries"] == 2


def test_push_of_something_damaged_copies_the_rest_and_exits_3(
    store: LocalStore, tmp_path: Path, capsys: Capture
) -> None:
    bad, _ = keep(store, tmp_path / "made"), keep(store, tmp_path / "made", 1)
    damage(store, bad.place)
    found = report(capsys, "push", str(tmp_path / "team"), code=3)
    assert found["data"]["copied"] == 1
    assert bad.key.digest in found["error"]["message"]


@pytest.mark.parametrize("verb", ["ls", "verify", "push", "pull"])
def test_a_url_that_does_not_answer_ends_with_3(
    store: LocalStore, bucket: Any, capsys: Capture, verb: str
) -> None:
    url = "s3://no-such-bucket/x"
    arguments = [verb, url] if verb in ("push", "pull") else [verb, "--cache", url]
    assert "s3://no-such-bucket" in report(capsys, *arguments, code=3)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ls", "--cache", "off"), "the cache is off"),
        (("explain", "model", "--cache", "off"), "it is off"),
        (("explain", "model", "--dump-ir", "x"), "--dump-ir"),
        (("push", "s3://bucket", "--cache", "s3://other"), "a cache in a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: Capture, arguments: tuple[str, ...], told: str
) -> None:
    assert told in report(capsys, *arguments, code=2)["error"]["message"]


def test_a_build_from_a_url_that_does_not_answer_ends_before_any_work(
    store: LocalStore, bucket: Any, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["build", str(tmp_path / "no model"), "-o", str(tmp_path / "out")]
    assert main([*arguments, "--cache", "s3://no-such-bucket/x", "--json"]) == 3
    assert "s3://no-such-bucket" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_every_build_of_a_file_is_explained(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "neuronc.toml"
    file.write_text(
        f'checkpoint = "{tiny_checkpoint}"\nmax_length = 16\nprefill_buckets = [8]\n'
        '[[build]]\nname = "one"\n[[build]]\nname = "two"\ntp = 2\n'
    )
    argv = ["cache", "explain", str(file), "--cache", str(tmp_path / "cache"), "--json"]
    assert main(argv) == 0
    parts = json.loads(capfd.readouterr().out)["data"]["parts"]
    lowered = [part["program"] for part in parts if part["kind"] == "lowered"]
    assert lowered == ["one/prefill_8", "one/decode_16", "two/prefill_8", "two/decode_16"]
    assert main([*argv, "--frozen"]) == 10
