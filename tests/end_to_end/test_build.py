"""Whole builds of tiny models, held against transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from neuronc.errors import UsageError
from neuronc.pipeline import build, split
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from tests.tiny_models import make_checkpoint

PROMPTS = ((5, 17, 40), tuple(range(3, 30)), (99,), tuple(range(60, 71)))


def greedy_by_transformers(checkpoint: Path, prompt: tuple[int, ...], num_new: int) -> list[int]:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(num_new):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def build_tiny(checkpoint: Path, out: Path, **settings: Any) -> Path:
    sizes = {"batch_size": 2, "max_length": 48, "prefill_buckets": (16,), **settings}
    return build(Recipe(checkpoint=str(checkpoint), **sizes), out).folder


def assert_same_text_as_transformers(checkpoint: Path, artifact: Path) -> None:
    requests = [
        Request(request_id=str(n), prompt_ids=prompt, max_new_tokens=12)
        for n, prompt in enumerate(PROMPTS)
    ]
    answers = Engine(Session.open(artifact)).run(requests)
    for request in requests:
        expected = greedy_by_transformers(checkpoint, request.prompt_ids, 12)
        assert list(answers[request.request_id]) == expected


@pytest.mark.parametrize(
    "tp", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 4]
)
def test_llama_with_9_and_3_heads_equals_transformers(
    tiny_checkpoint: Path, tmp_path: Path, tp: int
) -> None:
    artifact = build_tiny(tiny_checkpoint, tmp_path / "artifact", tp=tp)
    assert_same_text_as_transformers(tiny_checkpoint, artifact)


def test_llama_at_tp_2_equals_transformers(tiny_checkpoint: Path, tiny_artifact: Path) -> None:
    assert_same_text_as_transformers(tiny_checkpoint, tiny_artifact)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param("mistral", marks=pytest.mark.slow),
        pytest.param("qwen2", marks=pytest.mark.slow),
        pytest.param("qwen3", marks=pytest.mark.slow),
        pytest.param("gemma", marks=pytest.mark.slow),
    ],
)
def test_family_at_tp_2_equals_transformers(tmp_path: Path, family: str) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family=family)
    artifact = build_tiny(checkpoint, tmp_path / "artifact", tp=2)
    assert_same_text_as_transformers(checkpoint, artifact)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_reduced_precision_is_within_its_own_tolerance(
    tiny_checkpoint: Path, tmp_path: Path, dtype: str
) -> None:
    artifact = build_tiny(tiny_checkpoint, tmp_path / "artifact", tp=2, dtype=dtype)
    found = json.loads((artifact / "manifest.json").read_text())["verification"]
    assert found["passed"]
    assert 0 < found["max_ulp"] < found["tolerance_ulp"]


@pytest.mark.slow
def test_untied_model_with_odd_vocabulary_equals_transformers(tmp_path: Path) -> None:
    # 127 does not divide by 2: the head and the embedding are padded, and the padding is cut off.
    checkpoint = make_checkpoint(
        tmp_path / "checkpoint", tie_word_embeddings=False, vocab_size=127, tokenizer=False
    )
    artifact = build_tiny(checkpoint, tmp_path / "artifact", tp=2)
    assert_same_text_as_transformers(checkpoint, artifact)


def test_verification_passes_through_every_program(tiny_artifact: Path) -> None:
    manifest = json.loads((tiny_artifact / "manifest.json").read_text())
    assert set(manifest["verification"]["by_program"]) == {
        "prefill_8",
        "prefill_16",
        "decode_32",
        "decode_64",
    }
    assert manifest["verification"]["passed"]
    assert manifest["verification"]["top1_agreement"] == 1.0


def test_output_that_holds_the_input_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    split(Recipe(checkpoint=str(tiny_checkpoint), tp=2), weights)
    before = sorted(p.name for p in weights.iterdir())
    for out in (weights, tmp_path):
        with pytest.raises(UsageError, match="holds the checkpoint"):
            build(Recipe(checkpoint=str(weights), tp=2), out, overwrite=True)
    assert sorted(p.name for p in weights.iterdir()) == before


def test_dump_folder_that_cannot_be_is_refused_before_any_work(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the folder"):
        build(Recipe(checkpoint=str(tiny_checkpoint)), tmp_path / "a", dump_ir=tmp_path / "file")
    assert not (tmp_path / "a").exists()
