"""A NEFF's artifact tells the checkpoint that its bundle was lowered from, and its compiler."""

import json
from pathlib import Path

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.cli.app import main
from neuronc.provenance.consistent import find_differences, find_gaps
from neuronc.provenance.read import dependencies_of, read_statement
from neuronc.targets.neuron.settings import CompileOptions
from tests.neuron_doubles import CompilerDouble


def test_a_compiled_bundle(
    tiny_bundle: Path,
    compiler: CompilerDouble,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    manifest = compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    statement = read_statement(tmp_path / "art")
    assert statement is not None
    assert not find_differences(statement, manifest)
    assert not find_gaps(statement)
    found = {entry["name"]: entry for entry in dependencies_of(statement)}
    assert found["bundle"]["digest"] == {"neuroncManifestV1": read_manifest(tiny_bundle).digest}
    assert found["neuronx-cc"]["uri"].startswith("pkg:pypi/neuronx-cc@")
    assert not any(s["name"].endswith("neuronx-cc.log") for s in statement["subject"])

    assert main(["check", str(tmp_path / "art"), "--json", "--quiet"]) == 5
    answers = json.loads(capfd.readouterr().out)["data"]["answers"]
    verdicts = {answer["question"]: answer["verdict"] for answer in answers}
    assert verdicts["needs compiling"] == "yes", "a double made its NEFFs"
    assert verdicts["needs which Neuron runtime"] == "unknown"
    assert main(["check", str(tmp_path / "art"), "--on", "cpu", "--quiet"]) == 0
