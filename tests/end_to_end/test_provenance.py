"""Artifacts that the pipeline makes say where they come from, and keep saying it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from neuronc import pipeline
from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.relink import relink
from neuronc.checkpoint.digest import sha256_file
from neuronc.cli.app import main
from neuronc.provenance.consistent import find_differences, find_gaps
from neuronc.provenance.keys import new_key
from neuronc.provenance.names import ENVELOPE_FILE
from neuronc.provenance.read import dependencies_of, read_statement
from neuronc.provenance.signing import require_signature, sign_artifact
from tests.end_to_end.resign import resign
from tests.tiny_models import make_checkpoint


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "other")
    new_key(folder / "k")
    return folder / "k"


@pytest.fixture
def signed(tiny_artifact: Path, tmp_path: Path, key: Path) -> Path:
    folder = Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))
    sign_artifact(folder, key)
    return folder


def require_complete(folder: Path) -> dict[str, dict[str, Any]]:
    """Check the statement in ``folder``; its dependencies by name."""
    statement = read_statement(folder)
    assert statement is not None
    assert not find_differences(statement, read_manifest(folder))
    assert not find_gaps(statement)
    return {found["name"]: found for found in dependencies_of(statement)}


def report(capfd: pytest.CaptureFixture[str], *argv: str, expected: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert main([*argv, "--json", "--quiet"]) == expected
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_a_build_tells_the_checkpoint_it_was_made_of(
    tiny_artifact: Path, tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = require_complete(tiny_artifact)
    weights = found["checkpoint/model.safetensors"]["digest"]["sha256"]
    assert weights == sha256_file(tiny_checkpoint / "model.safetensors")
    shown = report(capfd, "inspect", str(tiny_artifact), "--provenance")["data"]
    assert (shown["differences"], shown["gaps"], shown["has_bom"]) == ([], [], True)
    assert main(["inspect", str(tiny_artifact), "--provenance"]) == 0
    assert "unknown: the checkpoint does not say" in capfd.readouterr().out


def test_check_says_yes_on_the_machine_that_built_it(
    tiny_artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = report(capfd, "check", str(tiny_artifact))
    assert found["data"]["ok"]
    assert not found["warnings"]


def test_a_signed_artifact_is_used_and_verified_and_stays_signed(
    signed: Path, key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    public = f"{key}.pub"
    argv = ("--prompt", "the end", "--max-new-tokens", "2", "--require-signature", public)
    assert report(capfd, "generate", str(signed), *argv)["ok"]
    report(capfd, "verify", str(signed), "--require-signature", public)
    require_signature(signed, Path(public))
    assert report(capfd, "check", str(signed), "--require-signature", public)["ok"]


@pytest.mark.parametrize(
    "argv",
    [
        ("generate", "{}", "--prompt", "a"),
        ("embed", "{}", "--text", "a"),
        ("bench", "{}"),
        ("verify", "{}"),
        ("compare", "{}", "{}"),
        ("check", "{}"),
    ],
)
@pytest.mark.parametrize("harm", ["other key", "swapped executable"])
def test_no_verb_loads_what_was_not_signed_so(
    signed: Path,
    key: Path,
    argv: tuple[str, ...],
    harm: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from neuronc.runtime import opening

    def refuse(*_args: object) -> None:
        message = "an artifact was opened"
        raise AssertionError(message)

    monkeypatch.setattr(opening, "check_files", refuse)  # the first thing that opening does
    public = f"{key}.pub"
    if harm == "other key":
        public = str(key.with_name("other.pub"))
    else:
        next(signed.rglob("cpu.exe")).write_bytes(b"evil")
        resign(signed)
    filled = [word.format(signed) for word in argv]
    found = report(capfd, *filled, "--require-signature", public, expected=3)
    told = "expected a signature of key" if harm == "other key" else "another artifact"
    assert told in found["error"]["message"]


def test_refit_and_relink_leave_provenance_that_fits(
    tiny_artifact: Path, tmp_path: Path, key: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuned = make_checkpoint(tmp_path / "tuned", seed=5)
    (tuned / "README.md").write_text("---\nlicense: mit\nbase_model: org/tiny\n---\n")
    refitted = tmp_path / "refitted"
    pipeline.refit(tiny_artifact, str(tuned), refitted, verify=False)
    found = require_complete(refitted)
    before = read_manifest(tiny_artifact).digest
    assert found["programs"]["digest"] == {"neuroncManifestV1": before}
    assert found["checkpoint"]["annotations"]["license"] == "mit"
    sign_artifact(refitted, key)
    differs = report(capfd, "diff", str(tiny_artifact), str(refitted))["data"]
    assert differs["recompiled"] == []
    assert differs["weights"]["num_same"] == 0
    assert len(differs["weights"]["changed"]) > 10

    relink(refitted)
    again = require_complete(refitted)
    assert again["checkpoint"] == found["checkpoint"]
    assert not (refitted / ENVELOPE_FILE).exists(), "the signature was of other executables"
