"""Relinking a Neuron artifact makes its CPU programs again, and leaves its NEFFs alone."""

from contextlib import closing
from pathlib import Path

import pytest

from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.artifact.relink import relink
from neuronc.cli.app import main
from neuronc.lower.program_files import COMPILED, EXECUTABLE
from neuronc.parallel.split_manifest import check_files
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.targets.neuron.settings import CompileOptions
from tests.neuron_doubles import CompilerDouble


@pytest.mark.slow
@pytest.mark.usefixtures("_nrtpy")
def test_relinked_artifact_keeps_its_neffs_and_runs_on_the_device(
    tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    artifact = tmp_path / "art"
    before = compile_bundle(tiny_bundle, artifact, CompileOptions())
    relink(artifact)

    after = read_manifest(artifact)
    assert _digests(after) == _digests(before)
    assert len([path for path in _digests(after) if Path(path).name in COMPILED]) == 12
    check_files(artifact, after.files)
    assert _tokens(artifact, on="target") == _tokens(artifact, on="cpu")
    argv = ["--mode", "latency", "--new-tokens", "2", "--requests", "1", "--repeats", "1"]
    assert main(["bench", str(artifact), *argv, "--quiet", "--json"]) == 0


def _digests(manifest: Manifest) -> dict[str, str]:

    return {f.path: f.sha256 for f in manifest.files if Path(f.path).name != EXECUTABLE}


def _tokens(artifact: Path, *, on: str) -> dict[str, tuple[int, ...]]:
    request = Request(request_id="0", prompt_ids=(3, 4, 5), max_new_tokens=5)
    with closing(Session.open(artifact, on=on)) as session:  # type: ignore[arg-type]
        return Engine(session).run([request])
