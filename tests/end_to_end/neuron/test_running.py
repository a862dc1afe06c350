"""NEFFs on ranks, with the doubles of neuronx-cc and nrtpy: what they prove stops at the device."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.bench.device import measure_device
from neuronc.bench.outputs.schema import load_schema
from neuronc.cli.app import main
from neuronc.errors import InputError, ToolchainError, UsageError
from neuronc.pipeline import build, verify
from neuronc.recipe import Recipe
from neuronc.runtime.embedder import embed_tokens
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.targets.neuron.settings import CompileOptions
from tests.end_to_end.resign import copy_artifact, resign
from tests.neuron_doubles import CompilerDouble, nrtpy_site
from tests.tiny_families import random_encoder

REQUESTS = [
    Request(request_id=str(n), prompt_ids=tuple(range(3, 3 + n)), max_new_tokens=9)
    for n in (5, 13, 30)
]


@pytest.fixture(scope="module")
def artifact(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny bundle at tp=2, compiled by the double."""
    folder = tmp_path_factory.mktemp("neffs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", CompilerDouble(folder / "bin").path)
        patch.setenv("NEURONC_CACHE", str(folder / "cache"))
        compile_bundle(tiny_bundle, folder / "art", CompileOptions())
        yield folder / "art"


def answers(artifact: Path, **how: Any) -> dict[str, tuple[int, ...]]:
    with closing(Session.open(artifact, **how)) as session:
        return Engine(session).run(REQUESTS)


@pytest.mark.usefixtures("_nrtpy")
def test_threads_of_two_ranks_give_the_cpu_targets_tokens(
    artifact: Path, tiny_artifact: Path
) -> None:
    assert answers(artifact) == answers(artifact, on="cpu") == answers(tiny_artifact)


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.usefixtures("_nrtpy")
def test_other_tp_degrees_give_the_cpu_targets_tokens(
    tp: int, tiny_checkpoint: Path, compiler: CompilerDouble, tmp_path: Path
) -> None:
    recipe = Recipe(
        checkpoint=str(tiny_checkpoint),
        tp=tp,
        target="trn2",
        batch_size=2,
        max_length=48,
        prefill_buckets=(16,),
    )
    built = build(recipe, tmp_path / "art", verify=False)
    assert built.manifest.lnc == 2
    assert answers(tmp_path / "art") == answers(tmp_path / "art", on="cpu")


@pytest.mark.slow
def test_process_per_rank_gives_the_same_tokens(artifact: Path) -> None:
    """In a process of its own: what it spawns imports the caller's main module."""
    script = (
        "import json, sys; from pathlib import Path;"
        "from tests.end_to_end.neuron.test_running import answers;"
        "how = {'rank_processes': True} if sys.argv[2] == 'processes' else {'on': 'cpu'};"
        "print(json.dumps(answers(Path(sys.argv[1]), **how)))"
    )
    found = []
    for how in ("processes", "cpu"):
        path = f"{nrtpy_site()}:{Path(__file__).parents[3]}"
        done = subprocess.run(
            [sys.executable, "-c", script, str(artifact), how],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin", "JAX_NUM_CPU_DEVICES": "4"},
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]


@pytest.mark.usefixtures("_nrtpy")
def test_verification_on_the_double_does_not_claim_hardware(artifact: Path, tmp_path: Path) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    manifest, error = verify(copied, None, on="target")
    assert error is None
    assert (manifest.verification or {})["target"] == "inf2 test double"
    assert (manifest.neuron or {})["hardware"] == "not run on a Neuron device"


@pytest.mark.usefixtures("_nrtpy")
def test_verification_catches_swapped_shards(
    artifact: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    one, other = (copied / "weights" / f"rank-{n}.safetensors" for n in (0, 1))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    resign(copied)
    _, error = verify(copied, str(tiny_checkpoint), on="target")
    assert error is not None
    assert error.exit_code == 6


@pytest.mark.usefixtures("_nrtpy")
def test_bench_times_the_device_and_names_the_double(
    artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["bench", str(artifact), "--prompt-tokens", "9", "--new-tokens", "4", "--requests", "2"]
    assert main([*argv, "--mode", "latency", "--repeats", "1", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    jsonschema.validate(data, load_schema())
    assert data["headline"] == "inf2 test double target (not known to be a Neuron device)"
    device = data["load"]["device"]
    assert list(device) == [p.name for p in read_manifest(artifact).programs]
    for times in device.values():
        assert 0 < times["min_ms"] <= times["mean_ms"] <= times["max_ms"]
        assert times["iterations"] == 20
    assert data["modes"]["latency"]["pooled"]["tpot_ms"]["mean"] > 0


def test_bench_on_the_cpu_has_no_device_times(artifact: Path) -> None:
    with closing(Session.open(artifact, on="cpu")) as session:
        assert measure_device(session) is None
        assert session.ran_on == "cpu"


@pytest.mark.usefixtures("_nrtpy")
def test_runtime_errors_carry_status_and_meaning(artifact: Path) -> None:
    with closing(Session.open(artifact)) as session:
        rank = session.ranks._ranks[1]  # type: ignore[attr-defined]
        program = rank._programs["decode", 32]
        del program.inputs["rank"]
        with pytest.raises(InputError, match=r"1002\).*\(status 1002: an input is missing") as told:
            session.decode(np.zeros(2, np.int32), np.zeros(2, np.int32), bucket=32)
        assert "rank 1, program decode_32" in told.value.message


@pytest.mark.usefixtures("_nrtpy")
def test_neff_of_another_program_is_refused_by_its_tensors(artifact: Path, tmp_path: Path) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    programs = copied / "programs"
    neff = (programs / "prefill_8" / "program.neff").read_bytes()
    (programs / "decode_32" / "program.neff").write_bytes(neff)
    resign(copied)
    with pytest.raises(InputError, match="NEFF of decode_32 has other tensors"):
        Session.open(copied)


@pytest.mark.usefixtures("_nrtpy")
def test_changed_neff_is_refused_before_it_is_loaded(artifact: Path, tmp_path: Path) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    neff = copied / "programs/decode_32/program.neff"
    neff.write_bytes(neff.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"program\.neff: digest mismatch"):
        Session.open(copied)


@pytest.mark.usefixtures("_nrtpy")
def test_environment_of_another_core_size_is_refused(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURON_LOGICAL_NC_CONFIG", "2")
    with pytest.raises(ToolchainError, match=r"CONFIG is 2; .* --lnc 1"):
        Session.open(artifact)


def test_without_nrtpy_it_is_exit_5_and_the_cpu_is_the_way_out(artifact: Path) -> None:
    with pytest.raises(ToolchainError, match="nrtpy, which runs NEFFs") as caught:
        Session.open(artifact)
    assert "--on cpu" in caught.value.hint


def test_bundle_runs_on_the_cpu_only(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="has no NEFFs: it is a bundle"):
        Session.open(tiny_bundle)
    assert answers(tiny_bundle, on="cpu")


def test_processes_are_for_neuron_cores(tiny_artifact: Path) -> None:
    with pytest.raises(UsageError, match="devices of one process"):
        Session.open(tiny_artifact, rank_processes=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_nrtpy")
def test_an_encoder_on_two_ranks_gives_the_cpu_targets_embeddings(
    compiler: CompilerDouble, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random_encoder("bert").save_pretrained(tmp_path / "checkpoint")
    asked = Recipe(
        checkpoint=str(tmp_path / "checkpoint"),
        tp=2,
        batch_size=2,
        max_length=16,
        buckets=(8, 16),
        target="inf2",
    )
    artifact = build(asked, tmp_path / "art").folder
    texts = [[5, 6, 7], [8] * 11, [9]]

    found = {}
    for place in ("target", "cpu"):
        with closing(Session.open(artifact, on=place)) as session:
            found[place] = embed_tokens(session, texts)
    assert sorted(compiler.compiled()) == ["embed_16", "embed_8"]
    assert np.abs(found["target"] - found["cpu"]).max() < 1e-6
    assert main(["bench", str(artifact), "--quiet", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    assert set(data["device"]) == {"embed_8", "embed_16"}
    assert data["target"] == "inf2 test double"
