"""Who takes part: conversion happens once, and who cannot is named with the reason."""

import dataclasses
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.peers import preparing
from tests.benchmarks.peers.catalog import OURS, Peer
from tests.benchmarks.peers.preparing import Ready, preparation_key
from tests.benchmarks.peers.process import Setting
from tests.benchmarks.peers.venvs import LeftOutError, last_line, pip_error, python_with

ENGINE = Path(__file__).with_name("fake_engine.py")
SETTING = Setting(dtype="f32", prompt_tokens=4, new_tokens=4)


class FakePeer(Peer):
    @property
    def path(self) -> Path:
        return ENGINE


def prepare(
    peers: Sequence[Peer], cache: Path, *dtypes: str, new_tokens: int = 4
) -> tuple[Mapping[tuple[str, str], Ready], dict[str, str]]:
    models = dict.fromkeys(dtypes, cache)
    return preparing.prepare(
        peers, models, cache, prompt_tokens=4, new_tokens=new_tokens, tell=lambda _: None
    )


def test_prepared_once_and_the_others_named(tmp_path: Path) -> None:
    peer = FakePeer(name="fake", file="", dtypes=("f32", "dies"), missing={"f16": "it has no f16"})
    for _ in range(2):
        ready, reasons = prepare([peer], tmp_path, "f32", "dies", "f16")
        assert list(ready) == [("fake", "f32")]
        assert reasons["fake f16"] == "it has no f16"
        assert "ValueError: cannot convert" in reasons["fake dies"]
        made = ready["fake", "f32"].folder / "made.json"
        assert json.loads(made.read_text()) == {"dtype": "f32", "max_length": 8}
        (made.parent / "kept").touch()
    assert (made.parent / "kept").exists()


def test_other_lengths_are_prepared_again(tmp_path: Path) -> None:
    peer = FakePeer(name="fake", file="")
    prepare([peer], tmp_path, "f32")
    ready, _ = prepare([peer], tmp_path, "f32", new_tokens=5)
    made = ready["fake", "f32"].folder / "made.json"
    assert json.loads(made.read_text()) == {"dtype": "f32", "max_length": 9}


def test_ours_is_prepared_again_by_other_code_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = (FakePeer(name=name, file="") for name in (OURS, "fake"))
    before = [preparation_key(peer, SETTING) for peer in (ours, theirs)]
    assert [preparation_key(peer, SETTING) for peer in (ours, theirs)] == before
    monkeypatch.setattr(preparing, "code_digest", lambda patterns: f"changed {patterns}")
    after = [preparation_key(peer, SETTING) for peer in (ours, theirs)]
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    "change", [{"packages": ("b",)}, {"export": ("b",)}, {"build": {"B": "1"}}]
)
def test_other_packages_are_other_preparations(change: dict[str, Any]) -> None:
    peer = FakePeer(name="fake", file="", packages=("a",))
    other = dataclasses.replace(peer, **change)
    assert preparation_key(other, SETTING) != preparation_key(peer, SETTING)


BACKEND = """
import os, pathlib

METADATA = "Metadata-Version: 2.1\\nName: broken\\nVersion: 1.0\\n"

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    made = pathlib.Path(folder, "broken-1.0.dist-info")
    made.mkdir()
    made.joinpath("METADATA").write_text(METADATA)
    return made.name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    tries = pathlib.Path(os.environ["TRIES"])
    tries.write_text(tries.read_text() + os.environ["FLAGS"])
    raise SystemExit("no compiler")
"""


def offer(folder: Path) -> None:
    """A package as a source that does not build, and as a wheel that would do."""
    (folder / "broken-1.0").mkdir()
    (folder / "broken-1.0" / "backend.py").write_text(BACKEND)
    (folder / "broken-1.0" / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    with tarfile.open(folder / "broken-1.0.tar.gz", "w:gz") as archive:
        archive.add(folder / "broken-1.0", "broken-1.0")
    with zipfile.ZipFile(folder / "broken-1.0-py3-none-any.whl", "w") as wheel:
        info = "broken-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_an_engine_that_does_not_build_is_named_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path)
    tries = tmp_path / "tries"
    tries.touch()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    build = {"FLAGS": "native", "TRIES": str(tries)}
    broken = FakePeer(name="broken", file="", packages=("broken",), build=build)
    others = FakePeer(name="fake", file="")
    ready, reasons = prepare([broken, others], tmp_path, "f32", "bf16")
    assert list(ready) == [("fake", "f32"), ("fake", "bf16")]
    assert list(reasons) == ["broken"]
    told, log = reasons["broken"].split(" (see ")
    assert re.match("pip install broken: ERROR: .*build.* wheel", told), told
    assert "no compiler" in Path(log.removesuffix(")")).read_text()
    assert tries.read_text() == "native", "one try, with the variables"


def test_an_environment_that_cannot_be_made_leaves_its_engine_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    told: list[str] = []
    with pytest.raises(LeftOutError, match="pip install nowhere-to-be-found: ERROR"):
        python_with(("nowhere-to-be-found",), tmp_path, tell=told.append)
    assert told == ["installing nowhere-to-be-found"]
    assert not list(tmp_path.glob("venvs/*/installed"))


def test_last_line() -> None:
    assert last_line("a\nb\n\n") == "b"
    assert last_line("") == "it said nothing"


def test_pip_error() -> None:
    assert pip_error("ERROR: first\nerror: last\nhint: above\n") == "error: last"
    assert pip_error("Killed\n") == "Killed"
