"""neuronc sign, check and diff as they are typed."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from tests.unit.artifact.test_check import change_byte, make_cpu
from tests.unit.artifact.test_diff import make


def report(capfd: pytest.CaptureFixture[str], *argv: str, expected: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert main([*argv, "--json", "--quiet"]) == expected
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("art", "--new-key", "k"), "--new-key makes a key and signs nothing"),
        (("--key", "k", "--new-key", "k"), "--new-key makes a key and signs nothing"),
        (("art",), "--key is missing"),
        (("--key", "k"), "ARTIFACT is missing"),
        ((), "ARTIFACT is missing"),
    ],
)
def test_what_makes_no_sense(
    argv: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert told in report(capfd, "sign", *argv, expected=2)["error"]["message"]


def test_sign_and_check(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, key = make_cpu(tmp_path / "artifact"), tmp_path / "k"
    (tmp_path / "pass").write_text("secret\n")
    secret = ("--passphrase-file", str(tmp_path / "pass"))
    made = report(capfd, "sign", "--new-key", str(key), *secret)["data"]
    assert made["encrypted"]
    refused = report(capfd, "sign", str(folder), "--key", str(key), expected=3)
    assert "no passphrase is given" in refused["error"]["message"]
    key.chmod(0o644)
    found = report(capfd, "sign", str(folder), "--key", str(key), *secret)
    assert found["data"]["key_id"] == made["key_id"]
    assert "others may read the key" in found["warnings"][0]
    public = ("--require-signature", made["public_key"])
    assert report(capfd, "check", str(folder), *public)["data"]["ok"]
    change_byte(folder)
    broken = report(capfd, "check", str(folder), *public, expected=3)
    assert not broken["data"]["ok"]
    assert len(broken["data"]["answers"]) == 8
    assert main(["check", str(folder), "--quiet"]) == 3
    assert "every file is as the manifest says" in capfd.readouterr().out


def test_diff_is_exit_0_whatever_differs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = str(make(tmp_path / "a"))
    b = str(make(tmp_path / "b", opcodes=("exp",), batch_size=1, tool_versions={"torch": "3"}))
    found = report(capfd, "diff", a, b)["data"]
    assert found["recompiled"] == ["prefill_8", "decode_8"]
    assert "torch '2.13.0+cpu' -> '3'" in found["forced_by"]
    assert report(capfd, "diff", a, a)["data"]["same_artifact"]
    assert main(["diff", a, b, "--quiet"]) == 0
    out = capfd.readouterr().out
    assert "another program" in out
    assert "2 the same" in out
    assert report(capfd, "diff", a, str(tmp_path / "none"), expected=3)["error"]
