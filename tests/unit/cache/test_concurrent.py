"""Several processes at one store: one makes, the others wait and take."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuronc.cache.cache import Cache
from neuronc.cache.entry import place_of
from neuronc.cache.local_store import LocalStore
from neuronc.cache.locks import if_free, key_lock
from tests.entries import keep, make_key

# A builder as `make_program` is one: lock, look, make, keep. It writes down that it made something.
_BUILDER = """
import sys, time
from pathlib import Path
from neuronc.cache.cache import Cache
from neuronc.cache.local_store import LocalStore
from tests.entries import FACTS, make_files, make_key

root, out, takes_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
out.mkdir()
cache, key = Cache(local=LocalStore(root=root)), make_key()
with cache.lock(key, lambda note: print(note, flush=True)):
    if cache.take(key, out) is None:
        print("making", flush=True)
        time.sleep(takes_s)
        names = make_files(out)
        cache.put(key, out, names, FACTS)
        (out / "made").touch()
print("done", flush=True)
"""
_ROOT = Path(__file__).parents[3]


def builder(root: Path, out: Path, takes_s: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", _BUILDER, str(root), str(out), str(takes_s)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=60)
    return output


def test_of_several_builders_one_makes_and_the_others_wait_and_take(tmp_path: Path) -> None:
    root = tmp_path / "store"
    builders = [builder(root, tmp_path / str(number), 0.5) for number in range(4)]
    outputs = [end(process) for process in builders]
    assert [process.returncode for process in builders] == [0] * 4
    made = [n for n in range(4) if (tmp_path / str(n) / "made").exists()]
    assert len(made) == 1
    assert all((tmp_path / str(n) / "cpu.exe").exists() for n in range(4))
    assert sum("waiting for process" in output for output in outputs) >= 1
    assert len(list(LocalStore(root=root).scan())) == 1


def test_who_is_killed_gives_the_lock_up_and_leaves_nothing_half(tmp_path: Path) -> None:
    root = tmp_path / "store"
    first = builder(root, tmp_path / "first", 600)
    assert line_of(first) == "making"
    second = builder(root, tmp_path / "second", 0)
    assert f"waiting for process {first.pid}" in line_of(second)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    begin_s = time.monotonic()
    assert "making" in end(second)
    assert time.monotonic() - begin_s < 20
    assert second.returncode == 0
    assert len(list(LocalStore(root=root).scan())) == 1
    assert first.stdout is not None
    first.stdout.close()


def test_builders_without_locks_keep_one_whole_entry(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (root / "locks").write_text("no folder: there are no locks")
    builders = [builder(root, tmp_path / str(number), 0.3) for number in range(3)]
    assert all("done" in end(process) for process in builders)
    store = LocalStore(root=root)
    (entry,) = store.entries()
    store.check(entry)
    assert [p for p in (root / "v1").rglob("*") if p.name.startswith(".")] == []


def test_a_lock_tells_its_owner_and_is_free_afterwards(tmp_path: Path) -> None:
    key, told = make_key(), list[str]()
    with key_lock(tmp_path, key, tell=told.append):
        owner = json.loads((tmp_path / "locks" / f"{key.digest}.owner").read_text())
        assert owner["pid"] == os.getpid()
        with if_free(tmp_path / "locks" / f"{key.digest}.lock") as is_free:
            assert not is_free
    with if_free(tmp_path / "locks" / f"{key.digest}.lock") as is_free:
        assert is_free
    assert told == []
    assert not (tmp_path / "locks" / f"{key.digest}.owner").exists()


@pytest.mark.parametrize("owner", ["", "[]", "{}", '{"pid": "x", "host": 1}', "[" * 5000, "\udcff"])
def test_whatever_an_owner_file_holds_is_only_words(tmp_path: Path, owner: str) -> None:
    from neuronc.cache.locks import _owner_in

    (tmp_path / "owner").write_bytes(owner.encode(errors="surrogateescape"))
    assert _owner_in(tmp_path / "owner") == "another process"


def test_a_build_that_fails_keeps_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    cache, key = Cache(local=LocalStore(root=tmp_path)), make_key()
    with pytest.raises(RuntimeError), cache.lock(key):
        raise RuntimeError
    assert not (tmp_path / place_of(key)).exists()
    with if_free(tmp_path / "locks" / f"{key.digest}.lock") as is_free:
        assert is_free
    keep(cache.local, tmp_path / "made")
