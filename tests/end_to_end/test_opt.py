"""OPT over ranks by a plan of ours, held against transformers; verification runs in every build."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.pipeline import build
from neuronc.recipe import Recipe
from tests.end_to_end.test_build import assert_same_text_as_transformers
from tests.tiny_models import make_checkpoint

AS_OPT_350M: dict[str, Any] = {"word_embed_proj_dim": 16, "do_layer_norm_before": False}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny-opt", family="opt")


@pytest.fixture(scope="module")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks; prompts take several chunks of 8 and 16 tokens, as verification's do."""
    return build_opt(checkpoint, tmp_path_factory.mktemp("artifact") / "tp2", tp=2)


def build_opt(checkpoint: Path, out: Path, *, tp: int, dtype: str = "auto") -> Path:
    recipe = Recipe(
        checkpoint=str(checkpoint),
        tp=tp,
        dtype=dtype,
        batch_size=2,
        max_length=48,
        prefill_buckets=(8, 16),
    )
    return build(recipe, out).folder


def verification_of(artifact: Path) -> dict[str, Any]:
    return dict(read_manifest(artifact).verification or {})


@pytest.mark.slow
def test_opt_at_tp_2_equals_transformers(checkpoint: Path, artifact: Path) -> None:
    assert_same_text_as_transformers(checkpoint, artifact)
    found = verification_of(artifact)
    assert found["passed"]
    assert set(found["by_program"]) == {"prefill_8", "prefill_16", "decode_48"}


@pytest.mark.slow
@pytest.mark.parametrize("tp", [1, 3, 4])
def test_opt_at_any_tp_equals_transformers(checkpoint: Path, tmp_path: Path, tp: int) -> None:
    artifact = build_opt(checkpoint, tmp_path / "artifact", tp=tp)
    assert read_split_manifest(artifact / "weights").padding.extra_q_heads == (2 if tp == 3 else 0)
    assert_same_text_as_transformers(checkpoint, artifact)


@pytest.mark.slow
def test_opt_in_bf16_is_within_its_own_tolerance(checkpoint: Path, tmp_path: Path) -> None:
    artifact = build_opt(checkpoint, tmp_path / "artifact", tp=2, dtype="bf16")
    found = verification_of(artifact)
    assert 0 < found["max_ulp"] < found["tolerance_ulp"]


@pytest.mark.slow
def test_a_narrow_embedding_with_late_norms_as_in_opt_350m_equals_transformers(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family="opt", **AS_OPT_350M)
    artifact = build_opt(checkpoint, tmp_path / "artifact", tp=2)
    assert_same_text_as_transformers(checkpoint, artifact)
