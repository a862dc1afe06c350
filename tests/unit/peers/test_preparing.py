"""Who takes part: conversion happens once, and who cannot is named with the reason."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.peers import preparing
from tests.benchmarks.peers.catalog import Peer
from tests.benchmarks.peers.venvs import LeftOutError, last_line, python_with

ENGINE = Path(__file__).with_name("fake_engine.py")


class FakePeer(Peer):
    @property
    def path(self) -> Path:
        return ENGINE


def test_prepared_once_and_the_others_named(tmp_path: Path) -> None:
    models = dict.fromkeys(("f32", "dies", "f16"), tmp_path)
    peer = FakePeer(name="fake", file="", dtypes=("f32", "dies"), missing={"f16": "it has no f16"})
    told: list[str] = []
    for _ in range(2):
        ready, reasons = preparing.prepare([peer], models, tmp_path, tell=told.append)
        assert list(ready) == [("fake", "f32")]
        assert reasons["fake f16"] == "it has no f16"
        assert "ValueError: cannot convert" in reasons["fake dies"]
        made = ready["fake", "f32"].folder / "made.json"
        assert json.loads(made.read_text()) == {"dtype": "f32"}
        (made.parent / "kept").touch()
    assert (made.parent / "kept").exists()


def test_an_environment_that_cannot_be_made_leaves_its_engine_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LeftOutError, match="pip install nowhere-to-be-found: ERROR"):
        python_with(("nowhere-to-be-found",), tmp_path)
    assert not list(tmp_path.glob("venvs/*/installed"))


def test_last_line() -> None:
    assert last_line("a\nb\n\n") == "b"
    assert last_line("") == "it said nothing"
