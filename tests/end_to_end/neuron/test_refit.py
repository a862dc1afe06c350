"""Refitting bundles and artifacts for Neuron targets: their programs are taken along."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.errors import InputError
from neuronc.pipeline import build, refit
from neuronc.recipe import Recipe
from neuronc.runtime.session import Session
from neuronc.targets.neuron.settings import NOT_ON_HARDWARE, CompileOptions
from tests.end_to_end.neuron.conftest import SIZES
from tests.end_to_end.resign import edit_manifest
from tests.neuron_doubles import CompilerDouble
from tests.tiny_models import make_checkpoint


@pytest.fixture
def fine_tune(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "fine-tune", seed=1)


@pytest.mark.slow
def test_a_refitted_bundle_is_verified_and_compiles(
    tiny_bundle: Path, fine_tune: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    manifest = refit(tiny_bundle, str(fine_tune), tmp_path / "bundle").manifest

    assert manifest.is_bundle
    assert (manifest.verification or {})["passed"]
    assert (tmp_path / "bundle" / "commands.txt").samefile(tiny_bundle / "commands.txt")
    assert compiler.compiled() == []
    compiled = compile_bundle(tmp_path / "bundle", tmp_path / "art", CompileOptions())
    assert (compiled.verification or {})["passed"]


@pytest.mark.usefixtures("_nrtpy")
def test_a_refitted_artifact_keeps_its_neffs_and_runs(
    tiny_bundle: Path, fine_tune: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "art", CompileOptions())
    calls = compiler.compiled()

    def proven(manifest: dict[str, Any]) -> None:
        manifest["neuron"]["hardware"] = "verified on a Neuron device"

    edit_manifest(tmp_path / "art", proven)
    manifest = refit(tmp_path / "art", str(fine_tune), tmp_path / "new").manifest

    assert compiler.compiled() == calls
    assert (manifest.verification or {})["passed"]
    assert (manifest.neuron or {})["compiler"] == (
        (read_manifest(tmp_path / "art").neuron or {})["compiler"]
    )
    assert (manifest.neuron or {})["hardware"] == NOT_ON_HARDWARE  # proven with other weights
    neff = "programs/decode_32/program.neff"
    assert (tmp_path / "new" / neff).samefile(tmp_path / "art" / neff)
    logits = []
    for name in ("new", "art"):
        with closing(Session.open(tmp_path / name)) as session:
            logits.append(session.prefill(0, (1, 5)))
    assert abs(logits[0] - logits[1]).max() > 0.1


@pytest.mark.slow
def test_a_bundle_without_weights_names_the_verb_that_puts_them_in(
    tiny_checkpoint: Path, fine_tune: Path, tmp_path: Path
) -> None:
    recipe = Recipe(checkpoint=str(tiny_checkpoint), tp=2, target="inf2", **SIZES)  # type: ignore[arg-type]
    options = CompileOptions(lower_only=True, config_only=True)
    bundle = build(recipe, tmp_path / "bare", options=options).folder

    with pytest.raises(InputError, match="has no weights to replace") as caught:
        refit(bundle, str(fine_tune), tmp_path / "new")
    assert "compile BUNDLE --weights SPLIT" in caught.value.hint
    assert not (tmp_path / "new").exists()
