"""neuronc compare on two artifacts: measured in turn, and a slower one is found and named."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from neuronc.runtime.session import Session

QUICK = ("--new-tokens", "8", "--prompt-tokens", "9", "--requests", "3", "--quiet", "--json")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pair(tiny_artifact: Path, tmp_path: Path) -> tuple[Path, Path]:
    return tiny_artifact, Path(shutil.copytree(tiny_artifact, tmp_path / "copy"))


def compare(capfd: Capture, *argv: str) -> tuple[int, dict[str, Any]]:
    code = main(["compare", *argv])
    return code, json.loads(capfd.readouterr().out)


@pytest.mark.slow
def test_slower_decode_fails_and_is_named(
    pair: tuple[Path, Path], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Session] = []
    open_session, decode = Session.open.__func__, Session.decode  # type: ignore[attr-defined]

    def remember(cls: type[Session], *args: Any, **fields: Any) -> Session:
        opened.append(open_session(cls, *args, **fields))
        return opened[-1]

    def slowed(session: Session, *args: Any, **fields: Any) -> Any:
        started = time.monotonic()
        result = decode(session, *args, **fields)
        if session.manifest is opened[1].manifest:
            # Three times as slow at least, however loaded the machine is.
            time.sleep(max(0.02, 2 * (time.monotonic() - started)))
        return result

    monkeypatch.setattr(Session, "open", classmethod(remember))
    monkeypatch.setattr(Session, "decode", slowed)
    argv = ("--fail-on", "tpot.p50>+50%", *QUICK)
    code, document = compare(capfd, *map(str, pair), *argv)
    assert code == 11
    assert document["error"]["kind"] == "regression"
    assert document["data"]["a"]["repeats"]["latency"] == 5
    assert "decode/32" in document["error"]["hint"]


@pytest.mark.slow
def test_artifact_is_no_slower_than_itself(pair: tuple[Path, Path], capfd: Capture) -> None:
    code, document = compare(capfd, *map(str, pair), "--fail-on", "tpot.p50>+400%", *QUICK)
    assert code == 0, document
    (verdict,) = document["data"]["rules"]
    assert verdict["verdict"] == "PASS"


def test_flags_about_measuring_are_refused_for_files(tmp_path: Path, capfd: Capture) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    assert main(["compare", *paths, "--repeats", "3", "--time-budget", "9"]) == 2
    assert "--repeats, --time-budget are about measuring" in capfd.readouterr().err


def test_a_trace_that_takes_both_longer_than_the_budget_is_told_what_suffices(
    pair: tuple[Path, Path], tmp_path: Path, capfd: Capture
) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"prompt_tokens": 4, "new_tokens": 20}\n' * 9999)
    measured = ("--mode", "serve", "--lengths", f"@{trace}", "--quiet", "--json")
    code, document = compare(capfd, *map(str, pair), *measured, "--time-budget", "4")
    assert code == 2
    assert "and 2 s of the time budget are left" in document["error"]["message"]
    assert "--time-budget" in document["error"]["hint"]


def test_artifact_and_file_are_refused(
    pair: tuple[Path, Path], tmp_path: Path, capfd: Capture
) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert main(["compare", str(pair[0]), str(tmp_path / "a.json")]) == 2
    assert "is an artifact and" in capfd.readouterr().err


def test_unlike_artifacts_and_a_bad_place_are_refused_before_measuring(
    pair: tuple[Path, Path], tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "open", lambda *_, **__: pytest.fail("measured"))
    missing = str(tmp_path / "nowhere" / "a.xml")
    assert main(["compare", *map(str, pair), "--junit", missing]) == 2
    assert "--junit" in capfd.readouterr().err
    marks = iter(({"batch_size": 2}, {"batch_size": 4}))
    monkeypatch.setattr("neuronc.bench.document.fingerprint", lambda _: next(marks))
    assert main(["compare", *map(str, pair)]) == 3
    assert "batch_size is 2 in A and 4 in B" in capfd.readouterr().err
