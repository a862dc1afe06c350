"""--top-k-call: a mixture of experts whose routers take the compiler's own top-k, on the doubles."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.neffs import compile_bundle
from neuronc.artifact.relink import relink
from neuronc.cli.app import main
from neuronc.lower.program_files import HLO, NEURON_HLO
from neuronc.pipeline import build, verify
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.targets.neuron.hlo.top_k_calls import count_calls
from neuronc.targets.neuron.settings import CompileOptions
from tests.end_to_end.resign import copy_artifact, edit_manifest
from tests.in_process import make_programs_here
from tests.neuron_doubles import CompilerDouble
from tests.tiny_families import random_model

pytestmark = pytest.mark.slow

REQUESTS = [
    Request(request_id=str(n), prompt_ids=tuple(range(3, 3 + n)), max_new_tokens=8)
    for n in (4, 11, 7)
]
LOWER = CompileOptions(lower_only=True)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny mixtral of 2 layers and 4 experts at tp=2, without and with the calls."""
    folder = tmp_path_factory.mktemp("top-k")
    random_model("mixtral").save_pretrained(folder / "checkpoint")
    with pytest.MonkeyPatch.context() as patch:
        make_programs_here(patch)
        rounds, calls = (
            build(recipe(folder / "checkpoint", top_k_call=on), folder / str(on), options=LOWER)
            for on in (False, True)
        )
    return rounds.folder, calls.folder


def recipe(checkpoint: Path, **fields: Any) -> Recipe:
    return Recipe(
        checkpoint=str(checkpoint),
        tp=2,
        target="inf2",
        batch_size=2,
        max_length=32,
        prefill_buckets=(8,),
        on_device_sampling=True,
        **fields,
    )


def answers(artifact: Path, **how: Any) -> dict[str, tuple[int, ...]]:
    with closing(Session.open(artifact, **how)) as session:
        return Engine(session).run(REQUESTS)


@pytest.mark.usefixtures("_nrtpy")
def test_the_tokens_are_those_of_the_rounds(
    bundles: tuple[Path, Path], compiler: CompilerDouble, tmp_path: Path
) -> None:
    found = []
    for name, bundle in zip(("rounds", "calls"), bundles, strict=True):
        compile_bundle(bundle, tmp_path / name, CompileOptions())
        found += [answers(tmp_path / name), answers(tmp_path / name, on="cpu")]
    assert len(compiler.compiled()) == 4  # other HLO, other NEFFs
    assert found == [found[0]] * 4
    manifest, error = verify(tmp_path / "calls", None, on="target")
    assert error is None
    told = manifest.verification or {}
    assert (told["target"], told["unverified_top_k_calls"]) == ("inf2 test double", 4)


def test_each_router_has_its_call_and_pre_flight_has_nothing_to_say(
    bundles: tuple[Path, Path],
) -> None:
    plain, told = (read_manifest(bundle) for bundle in bundles)
    assert (plain.num_top_k_calls, told.num_top_k_calls) == (0, 4)
    neuron = told.neuron or {}
    assert neuron["top_k_calls"] == {"prefill_8": 2, "decode_32": 2}
    assert neuron["warnings"] == (plain.neuron or {})["warnings"]
    assert "unverified_top_k_calls" not in (plain.verification or {})
    assert (told.verification or {})["unverified_top_k_calls"] == 4
    assert (told.verification or {})["passed"]
    for program in told.programs:
        folder = bundles[1] / "programs" / program.name
        assert count_calls((folder / NEURON_HLO).read_bytes()) == 2
        assert b"AwsNeuronTopK" not in (folder / HLO).read_bytes()


def test_relinked_programs_are_made_of_the_rounds_again(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    copied = copy_artifact(bundles[1], tmp_path / "copy")
    relink(copied)
    manifest, error = verify(copied, None)
    assert error is None
    assert (manifest.verification or {})["unverified_top_k_calls"] == 4
    assert answers(copied, on="cpu") == answers(bundles[0], on="cpu")


def test_inspect_and_verify_say_what_is_not_verified(
    bundles: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = copy_artifact(bundles[1], tmp_path / "copy")
    assert main(["inspect", str(copied)]) == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "top-k 4 AwsNeuronTopK calls, not verified on a device" in shown
    assert main(["verify", str(copied), "--quiet", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["data"]["unverified_top_k_calls"] == 4
    (warning,) = document["warnings"]
    assert warning.startswith("4 AwsNeuronTopK calls stand in the HLO for neuronx-cc")
    assert "are not verified here" in warning


@pytest.mark.parametrize("calls", [7, {"prefill_8": -1}, {"other": 1}, {"prefill_8": True}])
def test_counts_that_cannot_be_are_refused(
    bundles: tuple[Path, Path], tmp_path: Path, calls: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    copied = copy_artifact(bundles[1], tmp_path / "copy")
    edit_manifest(copied, lambda manifest: manifest["neuron"].update(top_k_calls=calls))
    assert main(["inspect", str(copied), "--json"]) == 3
    assert "neuron.top_k_calls" in json.loads(capfd.readouterr().out)["error"]["message"]


def test_it_is_refused_where_it_would_do_nothing(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", str(tiny_checkpoint), "-o", str(tmp_path / "out"), "--top-k-call", "--json"]
    assert main(argv) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert "top_k_call is for Neuron targets, and the target is cpu" in error["message"]
    sizes = ["--max-length", "16", "--prefill-buckets", "8"]
    assert main([*argv, "--target", "inf2", "--lower-only", *sizes]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert "the model takes no top-k that AwsNeuronTopK could" in error["message"]
    assert error["hint"].startswith("leave out --top-k-call")
    assert not (tmp_path / "out").exists()
