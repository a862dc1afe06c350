"""Builds and the store, as whole processes: kill them, move the store, and build again elsewhere."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neuronc.cache.entry import Entry
from neuronc.cache.local_store import LocalStore
from tests.places import bucket, s3_server
from tests.tiny_models import edit_config, make_checkpoint

__all__ = ["bucket", "s3_server"]

pytestmark = pytest.mark.slow

_SIZES = ("--tp", "2", "--max-length", "32", "--prefill-buckets", "8")
_PROGRAMS = ["prefill_8", "decode_32"]


def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "NEURONC_CACHE"}
    return {**kept, "XDG_CACHE_HOME": str(tmp_path / "user")}


def command(checkpoint: Path, out: Path, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "neuronc", "build", str(checkpoint), "-o", str(out)]
    return [*start, *_SIZES, "--json", "--quiet", *arguments]


def build(checkpoint: Path, out: Path, *arguments: str, env: dict[str, str], code: int = 0) -> Any:
    line = command(checkpoint, out, *arguments)
    done = subprocess.run(line, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    document = json.loads(done.stdout)
    return document["data"] if code == 0 else document["error"]


def cache(*arguments: str, env: dict[str, str]) -> Any:
    line = [sys.executable, "-m", "neuronc", "cache", *arguments, "--json", "--quiet"]
    done = subprocess.run(line, check=True, capture_output=True, text=True, env=env)
    return json.loads(done.stdout)["data"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def built(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A store that a cold build filled, and the build's report."""
    folder = tmp_path_factory.mktemp("built")
    told = build(model, folder / "out", "--cache", str(folder / "store"), env=environment(folder))
    assert told["made"] == _PROGRAMS
    return folder / "store", told


def test_another_machine_builds_from_s3_and_compiles_nothing(
    model: Path, built: tuple[Path, Any], bucket: Any, tmp_path: Path
) -> None:
    store, told = built
    env, url = environment(tmp_path), "s3://models/ci/cache"
    frozen = build(model, tmp_path / "a", "--frozen", "--cache", url, env=env, code=10)
    assert "lacks 2 of what is needed" in frozen["message"]
    assert url in frozen["message"]
    pushed = cache("push", url, "--cache", str(store), env=env)
    assert pushed["copied_by_kind"]["executable"]["entries"] == 2

    found = build(model, tmp_path / "a", "--frozen", "--cache", url, env=env)
    assert (found["made"], found["from_cache"]) == ([], _PROGRAMS)
    assert found["artifact_digest"] == told["artifact_digest"]
    bucket.objects.all().delete()
    found = build(model, tmp_path / "b", "--frozen", env=env)  # by now it is in the user's folder
    assert found["artifact_digest"] == told["artifact_digest"]


def test_a_worker_reads_through_and_one_added_bucket_makes_one_program(
    model: Path, built: tuple[Path, Any], bucket: Any, tmp_path: Path
) -> None:
    store, _ = built
    env, url = environment(tmp_path), "s3://models"
    cache("push", url, "--cache", str(store), env=env)
    env |= {"NEURONC_CACHE_REMOTE": url, "NEURONC_CACHE": str(tmp_path / "mine")}
    more = ("--prefill-buckets", "8,16", "--no-verify")
    found = build(model, tmp_path / "a", *more, env=env)
    assert (found["made"], found["from_cache"]) == (["prefill_16"], _PROGRAMS)
    assert not (tmp_path / "user").exists()


def test_other_weights_and_words_of_the_config_make_nothing(
    built: tuple[Path, Any], tmp_path: Path
) -> None:
    store, told = built
    other = make_checkpoint(tmp_path / "fine-tune", seed=5)
    edit_config(other, _name_or_path="elsewhere", eos_token_id=9)
    found = build(other, tmp_path / "a", "--cache", str(store), env=environment(tmp_path))
    assert found["made"] == []
    assert found["verification"]["passed"]
    assert found["artifact_digest"] != told["artifact_digest"]


def test_a_poisoned_store_is_told_and_repaired(
    model: Path, built: tuple[Path, Any], tmp_path: Path
) -> None:
    store = LocalStore(root=built[0])
    (entry, *_) = store.entries("executable")
    (store.root / entry.place / "cpu.exe").write_bytes(b"evil")
    line = command(model, tmp_path / "a", "--cache", str(store.root))
    done = subprocess.run(
        line, check=True, capture_output=True, text=True, env=environment(tmp_path)
    )
    document = json.loads(done.stdout)
    assert len(document["data"]["made"]) == 1
    assert any(entry.key.digest[:16] in warning for warning in document["warnings"])
    for one in store.scan():
        assert isinstance(one, Entry)
        store.check(one)


def test_a_build_that_is_killed_leaves_whole_entries_only_and_is_gone_on_with(
    model: Path, tmp_path: Path
) -> None:
    env, store = environment(tmp_path), LocalStore(root=tmp_path / "store")
    line = command(model, tmp_path / "a", "--cache", str(store.root), "--jobs", "1")
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=env)
    deadline_s = time.monotonic() + 120
    while not list(store.entries("executable")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    found = list(store.scan())
    assert found
    for one in found:
        assert isinstance(one, Entry), one
        store.check(one)
    again = build(model, tmp_path / "a", "--cache", str(store.root), env=env)
    assert len(again["from_cache"]) >= 1
    frozen = build(model, tmp_path / "b", "--cache", str(store.root), "--frozen", env=env)
    assert frozen["artifact_digest"] == again["artifact_digest"]


def test_two_builds_at_once_make_every_program_once(model: Path, tmp_path: Path) -> None:
    env, store = environment(tmp_path), LocalStore(root=tmp_path / "store")
    lines = [
        command(model, tmp_path / name, "--cache", str(store.root), "--no-verify")
        for name in ("a", "b")
    ]
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, env=env) for line in lines]
    reports = [json.loads(process.communicate(timeout=200)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    digests = {report["data"]["artifact_digest"] for report in reports}
    assert len(digests) == 1  # of the very same executables
    assert len(list(store.entries("lowered"))) == len(list(store.entries("executable"))) == 2
