"""On-device sampling for a Neuron target: what neuronx-cc reads, and what comes off the device."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact import neffs
from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.artifact.relink import relink
from neuronc.cache.cache import open_cache
from neuronc.cli.app import main
from neuronc.lower.program_files import NEFF, NEURON_HLO
from neuronc.pipeline import build, refit, verify
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.session import Session
from neuronc.targets.neuron.hlo.summary import summarize_hlo
from neuronc.targets.neuron.settings import CompileOptions
from tests.doubles.wire import read_module
from tests.end_to_end.neuron.conftest import SIZES
from tests.end_to_end.resign import copy_artifact
from tests.end_to_end.test_on_device_sampling import REQUESTS
from tests.in_process import make_programs_here
from tests.neuron_doubles import CompilerDouble, nrtpy_site
from tests.tiny_models import make_checkpoint

GREEDY = REQUESTS[:4]


def compile_bundle(*args: Any, **fields: Any) -> Manifest:
    """With the store that the fixture `compiler` names."""
    return neffs.compile_bundle(*args, cache=open_cache(None), **fields)


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama at tp=2 lowered for inf2, pre-flight and verification included."""
    recipe = Recipe(
        checkpoint=str(tiny_checkpoint),
        tp=2,
        target="inf2",
        on_device_sampling=True,
        **SIZES,  # type: ignore[arg-type]
    )
    out = tmp_path_factory.mktemp("sampling") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        make_programs_here(patch)
        return build(recipe, out, options=CompileOptions(lower_only=True)).folder


@pytest.fixture(scope="module")
def artifact(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundle, compiled by the double."""
    folder = tmp_path_factory.mktemp("neffs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", CompilerDouble(folder / "bin").path)
        patch.setenv("NEURONC_CACHE", str(folder / "cache"))
        compile_bundle(bundle, folder / "art", CompileOptions())
        yield folder / "art"


def answers(artifact: Path, **how: Any) -> dict[str, tuple[int, ...]]:
    with closing(Session.open(artifact, **how)) as session:
        assert session.samples_on_device == read_manifest(artifact).on_device_sampling
        return Engine(session).run(REQUESTS)


@pytest.mark.usefixtures("_nrtpy")
def test_threads_give_the_tokens_of_an_artifact_without_it(
    artifact: Path, tiny_artifact: Path
) -> None:
    assert answers(artifact) == answers(artifact, on="cpu") == answers(tiny_artifact)


def test_processes_give_the_same_tokens(artifact: Path) -> None:
    """In a process of its own: what it spawns imports the caller's main module."""
    script = (
        "import json, sys; from pathlib import Path;"
        "from tests.end_to_end.neuron.test_on_device_sampling import answers;"
        "print(json.dumps(answers(Path(sys.argv[1]), rank_processes=True)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(artifact)],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PYTHONPATH": f"{nrtpy_site()}:{Path(__file__).parents[3]}",
            "PATH": "/usr/bin:/bin",
            "JAX_NUM_CPU_DEVICES": "4",
        },
    )
    found = {name: tuple(tokens) for name, tokens in json.loads(done.stdout).items()}
    assert found == answers(artifact, on="cpu")


@pytest.mark.usefixtures("_nrtpy")
def test_a_greedy_step_reads_four_bytes_a_slot_from_one_rank(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Session.open(artifact)) as session:
        from nrtpy import NrtpyTensor

        read: list[tuple[str, int]] = []
        numpy = NrtpyTensor.numpy

        def watch(tensor: Any) -> Any:
            read.append((tensor.name, tensor.tensor_ref.nbytes))
            return numpy(tensor)

        monkeypatch.setattr(NrtpyTensor, "numpy", watch)
        greedy = Engine(session).run(GREEDY)
        assert set(read) == {("tokens", 4), ("tokens", 2 * 4)}
        read.clear()
        session.samples_on_device = False
        assert Engine(session).run(GREEDY) == greedy
        assert {name for name, _ in read} == {"logits"}


@pytest.mark.slow
@pytest.mark.usefixtures("_nrtpy")
def test_verification_on_the_double_compares_its_tokens(artifact: Path, tmp_path: Path) -> None:
    manifest, error = verify(copy_artifact(artifact, tmp_path / "copy"), None, on="target")
    assert error is None
    found = manifest.verification or {}
    assert found["target"] == "inf2 test double"
    assert (found["num_tokens"], found["num_wrong_tokens"]) == (found["num_rows"], 0)


def test_the_hlo_has_supported_operators_only(bundle: Path, tiny_bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert (manifest.verification or {})["num_tokens"] > 0
    assert (manifest.neuron or {})["warnings"] == (read_manifest(tiny_bundle).neuron or {})[
        "warnings"
    ]
    for program in manifest.programs:
        hlo = bundle / "programs" / program.name / NEURON_HLO
        computations, _ = read_module(hlo.read_bytes())
        found = [one for body in computations.values() for one in body]
        assert not {one.opcode for one in found} & {"sort", "topk", "custom-call", "while"}
        assert all(len(one.operands) == 2 for one in found if one.opcode == "reduce")
        plain = tiny_bundle / "programs" / program.name / NEURON_HLO
        ours, theirs = summarize_hlo(hlo), summarize_hlo(plain)
        assert ours.outputs == (
            *theirs.outputs,
            f"tokens: s32[{program.signature.outputs[-1].shape[0]}]",
        )
        assert (ours.inputs, ours.num_aliases) == (theirs.inputs, theirs.num_aliases)
        assert ours.collectives == theirs.collectives


def test_the_choice_decides_which_neffs_are_reused(
    bundle: Path, tiny_bundle: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    compile_bundle(tiny_bundle, tmp_path / "without", CompileOptions())
    assert len(compiler.compiled()) == 4
    compile_bundle(bundle, tmp_path / "with", CompileOptions())
    assert len(compiler.compiled()) == 8
    compile_bundle(bundle, tmp_path / "again", CompileOptions())
    assert len(compiler.compiled()) == 8


@pytest.mark.slow
def test_relinking_and_refitting_keep_the_output(artifact: Path, tmp_path: Path) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    relink(copied)
    manifest, error = verify(copied, None)
    assert error is None
    assert (manifest.verification or {})["num_tokens"] > 0
    other = make_checkpoint(tmp_path / "fine-tune", seed=1)
    fresh = refit(artifact, str(other), tmp_path / "new").manifest
    assert fresh.on_device_sampling
    neff = f"programs/decode_32/{NEFF}"
    assert (tmp_path / "new" / neff).samefile(artifact / neff)


def test_a_bundle_is_told_too_late(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(bundle), "-o", str(tmp_path / "out"), "--on-device-sampling", "--json"]
    assert main(argv) == 2
    told = json.loads(capfd.readouterr().out)["error"]["message"]
    assert "was lowered already: --on-device-sampling comes too late" in told
