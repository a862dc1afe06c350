"""Every family, in every variant, from a checkpoint of transformers' to a verified artifact."""

from pathlib import Path

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.pipeline import build
from neuronc.recipe import Recipe
from tests.in_process import make_programs_here
from tests.tiny_families import COMPILED_TP, TINY_FAMILIES, random_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("variant", "dtype"),
    [("gemma2", "bf16"), ("mixtral", "bf16"), ("bloom", "f16"), ("deepseek_v3", "f16")],
)
def test_in_reduced_precision_it_errs_no_more_than_transformers(
    variant: str, dtype: str, tmp_path: Path
) -> None:
    random_model(variant).save_pretrained(tmp_path / "checkpoint")
    checkpoint = str(tmp_path / "checkpoint")
    recipe = Recipe(checkpoint=checkpoint, tp=2, dtype=dtype, max_length=16, prefill_buckets=(8,))

    artifact = build(recipe, tmp_path / "artifact").folder

    verification = dict(read_manifest(artifact).verification or {})
    assert verification["passed"]
    assert verification["dtype_ulp"] > 0.5


@pytest.mark.parametrize("tp", COMPILED_TP)
@pytest.mark.parametrize("variant", TINY_FAMILIES)
def test_a_checkpoint_becomes_an_artifact_that_computes_the_same(
    variant: str, tp: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs_here(monkeypatch)
    random_model(variant).save_pretrained(tmp_path / "checkpoint")
    recipe = Recipe(
        checkpoint=str(tmp_path / "checkpoint"),
        tp=tp,
        batch_size=2,
        max_length=32,
        prefill_buckets=(8,),
    )

    artifact = build(recipe, tmp_path / "artifact").folder

    verification = dict(read_manifest(artifact).verification or {})
    assert verification["passed"]
    assert verification["top1_agreement"] == 1.0
    assert set(verification["by_program"]) == {"prefill_8", "decode_32"}
