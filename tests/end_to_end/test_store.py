"""Builds with a store: what is made once is not made again, and what would be is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.cli.app import main
from tests.tiny_models import make_checkpoint

SIZES = ("--tp", "2", "--max-length", "32", "--prefill-buckets", "8", "--no-verify", "--quiet")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def store(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Path]]:
    """A store that one cold build filled, and its artifact."""
    folder = tmp_path_factory.mktemp("store")
    argv = ["build", str(tiny_checkpoint), "-o", str(folder / "cold"), *SIZES]
    assert main([*argv, "--cache", str(folder / "cache")]) == 0
    yield folder / "cache", folder / "cold"
    assert main(["build", str(tiny_checkpoint), "-o", str(folder / "end"), *SIZES, "--frozen",
                 "--cache", str(folder / "cache")]) == 0, "a test changed the store of all tests"  # fmt: skip


def build(capfd: Capture, checkpoint: Path, out: Path, *argv: str) -> tuple[int, dict[str, Any]]:
    capfd.readouterr()
    code = main(["build", str(checkpoint), "-o", str(out), *SIZES, "--json", *argv])
    return code, json.loads(capfd.readouterr().out)


def test_another_build_of_the_same_compiles_nothing_and_is_the_same(
    store: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    cache, cold = store
    moved = Path(shutil.copytree(tiny_checkpoint, tmp_path / "elsewhere" / tiny_checkpoint.name))
    code, document = build(capfd, moved, tmp_path / "out", "--cache", str(cache), "--frozen")
    assert code == 0, document["error"]
    assert document["data"]["made"] == []
    assert document["data"]["from_cache"] == ["prefill_8", "decode_32"]
    ours, theirs = read_manifest(tmp_path / "out"), read_manifest(cold)
    assert ours.files == theirs.files
    assert ours.digest == theirs.digest


def test_a_fine_tune_compiles_nothing(
    store: tuple[Path, Path], tmp_path: Path, capfd: Capture
) -> None:
    tuned = make_checkpoint(tmp_path / "tuned", seed=1)
    config = json.loads((tuned / "config.json").read_text())
    config |= {"_name_or_path": "somebody/else", "transformers_version": "4.1", "torch_dtype": "x"}
    config.pop("torch_dtype")
    (tuned / "config.json").write_text(json.dumps(config))
    code, document = build(capfd, tuned, tmp_path / "out", "--cache", str(store[0]), "--frozen")
    assert code == 0, document["error"]
    assert document["data"]["made"] == []


def test_frozen_says_which_program_is_missing_and_what_differs(
    store: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    argv = ("--cache", str(store[0]), "--frozen", "--prefill-buckets", "8,16")
    code, document = build(capfd, tiny_checkpoint, tmp_path / "out", *argv)
    assert code == 10
    assert document["error"]["kind"] == "frozen"
    message = document["error"]["message"]
    assert "lacks 1 of what is needed: prefill_16: bucket is 16; nearest entry" in message
    assert not (tmp_path / "out").exists()


def test_frozen_without_a_store_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    code, document = build(capfd, tiny_checkpoint, tmp_path / "out", "--cache", "off", "--frozen")
    assert code == 2
    assert "--frozen" in document["error"]["message"]


@pytest.mark.slow
def test_one_bucket_more_compiles_one_program(
    store: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    copied = shutil.copytree(store[0], tmp_path / "cache")
    argv = ("--cache", str(copied), "--prefill-buckets", "8,16")
    code, document = build(capfd, tiny_checkpoint, tmp_path / "out", *argv)
    assert code == 0
    assert document["data"]["made"] == ["prefill_16"]
    assert document["data"]["from_cache"] == ["prefill_8", "decode_32"]


def test_a_damaged_entry_is_told_and_made_again(
    store: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    copied = shutil.copytree(store[0], tmp_path / "cache")
    executable = min(copied.rglob("cpu.exe"))
    executable.write_bytes(executable.read_bytes()[:-1] + b"!")
    argv = ("--cache", str(copied))
    code, document = build(capfd, tiny_checkpoint, tmp_path / "out", *argv)
    assert code == 0
    assert len(document["data"]["made"]) == 1
    assert any("was damaged and is not used" in warning for warning in document["warnings"])
    assert build(capfd, tiny_checkpoint, tmp_path / "two", *argv, "--frozen")[0] == 0


def test_a_warm_build_imports_no_framework(
    store: tuple[Path, Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    script = (
        "import sys; from neuronc.cli.app import main; code = main(sys.argv[1:]);"
        "print(sorted({'torch', 'jax', 'transformers', 'numba'} & set(sys.modules)), code)"
    )
    argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *SIZES]
    for _ in range(2):  # into a new folder, and with the artifact there
        done = subprocess.run(
            [sys.executable, "-c", script, *argv, "--cache", str(store[0])],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


@pytest.mark.slow
def test_an_interrupted_build_goes_on_where_it_stopped(
    tiny_checkpoint: Path, tmp_path: Path, capfd: Capture
) -> None:
    cache = ("--cache", str(tmp_path / "cache"), "--jobs", "1")
    argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *SIZES, *cache]
    process = subprocess.Popen([sys.executable, "-m", "neuronc", *argv], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cache").rglob("executable/*/*/entry.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not (tmp_path / "out").exists()
    code, document = build(capfd, tiny_checkpoint, tmp_path / "out", *cache)
    assert code == 0
    assert document["data"]["from_cache"] == ["prefill_8"]
    assert document["data"]["made"] == ["decode_32"]


@pytest.mark.slow
def test_two_builds_at_once_make_everything_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def start(out: str) -> "subprocess.Popen[bytes]":
        argv = ["build", str(tiny_checkpoint), "-o", str(tmp_path / out), *SIZES, "--jobs", "1"]
        command = [sys.executable, "-m", "neuronc", *argv, "--cache", str(tmp_path / "cache")]
        return subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": out})

    builds = [start("1"), start("2")]
    assert [one.wait(300) for one in builds] == [0, 0]
    facts = [
        json.loads(path.read_text())["facts"]
        for path in (tmp_path / "cache" / "v1").glob("lowered/*/*/entry.json")
    ]
    assert len(facts) == 2
    one, other = (read_manifest(tmp_path / out) for out in "12")
    assert one.digest == other.digest
