"""Artifacts with quantised weights: built, verified against both models, reused, run."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.cli.app import main
from neuronc.errors import InputError, PlanError, UsageError, VerificationError
from neuronc.pipeline import build, build_cached, refit, split, verify
from neuronc.recipe import Recipe
from neuronc.runtime.session import Session
from tests.end_to_end.resign import copy_artifact, resign
from tests.tiny_families import random_encoder
from tests.tiny_models import make_checkpoint

SIZES: dict[str, Any] = {"batch_size": 2, "max_length": 32, "prefill_buckets": (8,)}


def recipe(checkpoint: Path, **fields: Any) -> Recipe:
    return Recipe(checkpoint=str(checkpoint), **{**SIZES, "tp": 2, "quantize": "int8", **fields})


@pytest.fixture(scope="module")
def artifact(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama in int8 at tp=2."""
    return build(recipe(tiny_checkpoint), tmp_path_factory.mktemp("int8") / "artifact").folder


def cost_in(folder: Path) -> Any:
    return (read_manifest(folder).verification or {})["quantization"]["cost"]


def test_it_is_verified_and_says_what_quantisation_costs(artifact: Path) -> None:
    found = dict(read_manifest(artifact).verification or {})
    assert found["passed"]
    assert found["max_relative_error"] < 1e-5  # of the model with dequantised weights
    assert "dequantised int8" in found["reference"]
    cost = found["quantization"]["cost"]
    assert found["quantization"]["scheme"] == "int8"
    assert 1e-3 < cost["mean_relative_error"] <= cost["max_relative_error"] < 0.5
    assert 0 < cost["mean_kl"] <= cost["max_kl"]
    assert 0.5 < cost["top1_agreement"] <= 1


def test_query_key_and_value_are_one_product_of_stored_weights(artifact: Path) -> None:
    (decode,) = [p for p in read_manifest(artifact).programs if p.phase == "decode"]
    names = [[name.split(".")[-2] for name in group] for group in decode.merged_weights]
    assert names == [["k_proj", "q_proj", "v_proj"], ["gate_proj", "up_proj"]] * 2
    dtypes = {t.name: t.dtype for t in decode.signature.inputs}
    assert {dtypes[name] for group in decode.merged_weights for name in group} == {"i8"}


def test_verifying_without_the_checkpoint_keeps_the_cost(artifact: Path, tmp_path: Path) -> None:
    copy = copy_artifact(artifact, tmp_path / "copy")
    manifest, error = verify(copy, None)
    assert error is None
    assert "rank shards put together" in (manifest.verification or {})["reference"]
    assert cost_in(copy) == cost_in(artifact) is not None


def test_a_changed_scale_is_found(artifact: Path, tmp_path: Path) -> None:
    copy = copy_artifact(artifact, tmp_path / "copy")
    path = copy / "weights" / "split.json"
    data = json.loads(path.read_text())
    name = next(n for n, t in data["tensors"].items() if "scale_xxh3_128" in t)
    data["tensors"][name]["scale_xxh3_128"] = "0" * 64
    path.write_text(json.dumps(data))
    resign(copy)
    with pytest.raises(VerificationError, match=f"'{name}_scale' put together"):
        verify(copy, None)


def test_the_scheme_decides_what_is_reused(artifact: Path, tiny_checkpoint: Path) -> None:
    assert build_cached(recipe(tiny_checkpoint), artifact).reused
    for other in (None, "fp8_e4m3"):
        with pytest.raises(UsageError, match=f"quantize was 'int8', asked {other!r}"):
            build_cached(recipe(tiny_checkpoint, quantize=other), artifact)


def test_a_refit_quantises_as_the_programs_take_it(artifact: Path, tmp_path: Path) -> None:
    fine_tune = make_checkpoint(tmp_path / "fine-tune", seed=1)

    built = refit(artifact, str(fine_tune), tmp_path / "new")

    assert built.manifest.quantize == "int8"
    assert cost_in(tmp_path / "new")["mean_kl"] > 0
    split(recipe(fine_tune), tmp_path / "weights")
    refit(artifact, str(tmp_path / "weights"), tmp_path / "newer", verify=False)
    shards = [tmp_path / name / "weights" / "rank-1.safetensors" for name in ("new", "newer")]
    assert shards[0].read_bytes() == shards[1].read_bytes()


@pytest.mark.parametrize("scheme", [None, "fp8_e4m3"])
def test_a_refit_refuses_weights_stored_otherwise(
    artifact: Path, tiny_checkpoint: Path, tmp_path: Path, scheme: str | None
) -> None:
    split(recipe(tiny_checkpoint, quantize=scheme), tmp_path / "weights")
    with pytest.raises(InputError, match=rf"holds {scheme or 'f32'} weights; .* take int8"):
        refit(artifact, str(tmp_path / "weights"), tmp_path / "new", verify=False)


def test_a_manifest_of_another_scheme_than_its_programs_is_damaged(
    artifact: Path, tmp_path: Path
) -> None:
    copy = copy_artifact(artifact, tmp_path / "copy")
    for scheme in (None, "fp8_e4m3", "int3", ["int8"]):
        data = json.loads((artifact / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps({**data, "quantize": scheme}))
        with pytest.raises(InputError, match="quantize cannot be"):
            read_manifest(copy)


@pytest.mark.slow
def test_a_split_folder_keeps_its_scheme(tiny_checkpoint: Path, tmp_path: Path) -> None:
    split(recipe(tiny_checkpoint, quantize="fp8_e4m3"), tmp_path / "weights")
    with pytest.raises(PlanError, match="holds fp8_e4m3 weights; asked for quantize int8"):
        build(recipe(tmp_path / "weights"), tmp_path / "other")
    built = build(recipe(tmp_path / "weights", quantize=None), tmp_path / "artifact")
    assert built.manifest.quantize == "fp8_e4m3"
    assert (built.manifest.verification or {})["passed"]
    assert cost_in(built.folder) is None  # the original weights are not at hand
    _, error = verify(built.folder, str(tiny_checkpoint))
    assert error is None
    assert cost_in(built.folder)["mean_kl"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("quantize", "dtype"), [("int8", "bf16"), ("fp8_e4m3", "f16")])
def test_in_reduced_precision_it_errs_no_more_than_transformers(
    tiny_checkpoint: Path, tmp_path: Path, quantize: str, dtype: str
) -> None:
    asked = recipe(tiny_checkpoint, tp=1, quantize=quantize, dtype=dtype)
    found = build(asked, tmp_path / "artifact").manifest.verification or {}
    assert found["passed"]


@pytest.mark.slow
def test_an_encoder_says_the_cost_of_its_embeddings(tmp_path: Path) -> None:
    random_encoder("bert").save_pretrained(tmp_path / "checkpoint")
    asked = Recipe(
        checkpoint=str(tmp_path / "checkpoint"), quantize="int8", max_length=16, buckets=(8, 16)
    )
    folder = build(asked, tmp_path / "artifact").folder
    cost = cost_in(folder)
    assert 0.9 < cost["min_cosine"] < 1
    assert cost["top1_agreement"] is None


def test_the_commands_take_such_an_artifact(
    artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["generate", str(artifact), "--prompt", "the end", "--max-new-tokens", "4", "--json"]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert main(["inspect", str(artifact)]) == 0
    shown = capsys.readouterr().out
    assert "cost of int8" in shown
    assert "KL divergence" in shown
    with closing(Session.open(artifact)) as session:
        assert session.manifest.quantize == "int8"
