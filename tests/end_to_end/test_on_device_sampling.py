"""Artifacts whose programs choose the most likely token themselves: the same answers, and proven."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.artifact.manifest import read_manifest
from neuronc.artifact.reuse import find_reusable
from neuronc.cli.app import main
from neuronc.errors import InputError, UsageError, VerificationError
from neuronc.pipeline import build, refit, verify
from neuronc.recipe import Recipe
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request, SamplingParams
from neuronc.runtime.sampling import greedy
from neuronc.runtime.session import Session
from neuronc.targets.neuron.settings import CompileOptions
from tests.end_to_end.resign import copy_artifact, edit_manifest
from tests.end_to_end.test_verify_catches import edit_program
from tests.in_process import make_programs_here
from tests.tiny_families import random_encoder, random_model
from tests.tiny_models import make_checkpoint

SIZES: dict[str, Any] = {
    "batch_size": 2,
    "max_length": 64,
    "prefill_buckets": (8, 16),
    "decode_buckets": (32, 64),
    "on_device_sampling": True,
}
SAMPLED = SamplingParams(temperature=0.8, top_k=20, seed=3)
REQUESTS = [
    Request(request_id=str(n), prompt_ids=tuple(range(3, 3 + n)), max_new_tokens=9)
    for n in (5, 13, 30, 1)
] + [Request(request_id="s", prompt_ids=(9, 8, 7), max_new_tokens=6, sampling=SAMPLED)]


def recipe(checkpoint: Path, **fields: Any) -> Recipe:
    return Recipe(checkpoint=str(checkpoint), **{**SIZES, **fields})


@pytest.fixture(scope="module")
def artifact(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama at tp=2, verified."""
    folder = tmp_path_factory.mktemp("sampling") / "tp2"
    with pytest.MonkeyPatch.context() as patch:
        make_programs_here(patch)
        build(recipe(tiny_checkpoint, tp=2), folder)
    return folder


def test_answers_are_those_without_it(artifact: Path, tiny_artifact: Path) -> None:
    with_it, without = Session.open(artifact), Session.open(tiny_artifact)
    assert (with_it.samples_on_device, without.samples_on_device) == (True, False)
    assert Engine(with_it).run(REQUESTS) == Engine(without).run(REQUESTS)


@pytest.mark.slow
def test_answers_at_tp_1_are_those_of_its_logits(
    tiny_checkpoint: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs_here(monkeypatch)
    built = build(recipe(tiny_checkpoint), tmp_path / "tp1")
    found = built.manifest.verification or {}
    assert found["num_tokens"] == found["num_rows"]
    session = Session.open(built.folder)
    answers = Engine(session).run(REQUESTS)
    session.samples_on_device = False
    assert answers == Engine(session).run(REQUESTS)
    assert answers == Engine(Session.open(artifact)).run(REQUESTS)


def test_verification_compares_every_token_of_every_program(
    artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = read_manifest(artifact).verification or {}
    assert found["passed"]
    assert (
        found["num_tokens"]
        == found["num_rows"]
        == sum(int(program["rows"]) for program in found["by_program"].values())
    )
    assert found["num_wrong_tokens"] == 0

    assert main(["inspect", str(artifact)]) == 0
    told = " ".join(capfd.readouterr().out.split())
    assert "sampling greedy on the device" in told
    assert main(["inspect", str(artifact), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["data"]["on_device_sampling"] is True


def test_tokens_come_after_the_caches(artifact: Path, tiny_artifact: Path) -> None:
    pairs = zip(
        read_manifest(artifact).programs, read_manifest(tiny_artifact).programs, strict=True
    )
    for ours, plain in pairs:
        assert ours.signature.outputs[:-1] == plain.signature.outputs
        assert ours.signature.aliases == plain.signature.aliases
        tokens = ours.signature.outputs[-1]
        assert (tokens.name, tokens.dtype, tokens.kind) == ("tokens", "i32", "data")
        assert tokens.shape == ours.signature.outputs[0].shape[:1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [("stablehlo.minimum", "stablehlo.maximum"), ("GT, ", "LE, ")],
    ids=["the last of no places", "finite is not finite"],
)
def test_a_program_that_samples_wrongly_fails(
    artifact: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    old: str,
    new: str,
) -> None:
    copied = copy_artifact(artifact, tmp_path / "copy")
    edit_program(copied, "decode_32", old, new)
    manifest, error = verify(copied, None)
    assert error is not None
    assert error.exit_code == 6
    assert "first at decode_32, slot 0" in error.message
    assert "(on the device token " in error.message
    found = manifest.verification or {}
    assert found["max_ulp"] <= found["tolerance_ulp"]  # the logits are right
    rows = found["by_program"]["decode_32"]["rows"]
    assert found["num_wrong_tokens"] == rows
    assert f"; {rows} of {found['num_tokens']} tokens sampled wrongly" in error.message


@pytest.mark.slow
def test_relinked_and_refitted_artifacts_sample(artifact: Path, tmp_path: Path) -> None:
    other = make_checkpoint(tmp_path / "fine-tune", seed=1)
    manifest = refit(artifact, str(other), tmp_path / "new").manifest
    assert manifest.on_device_sampling
    found = manifest.verification or {}
    assert (found["passed"], found["num_tokens"]) == (True, found["num_rows"])
    assert manifest.request["on_device_sampling"] is True


@pytest.mark.slow
def test_another_choice_is_another_artifact(artifact: Path, tiny_checkpoint: Path) -> None:
    def reusable(**fields: Any) -> Any:
        asked = recipe(tiny_checkpoint, tp=2, **fields)
        return find_reusable(artifact, asked, CompileOptions(), None, need_verified=True)

    assert reusable() is not None
    with pytest.raises(UsageError, match="on_device_sampling was True, asked False"):
        reusable(on_device_sampling=False)


def test_an_artifact_older_than_the_option_is_still_what_is_asked_for(
    tiny_artifact: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copied = copy_artifact(tiny_artifact, tmp_path / "copy")
    edit_manifest(copied, lambda manifest: manifest["request"].pop("on_device_sampling"))
    asked = replace(recipe(tiny_checkpoint, tp=2), on_device_sampling=False)
    assert find_reusable(copied, asked, CompileOptions(), None, need_verified=True)
    asked = replace(asked, on_device_sampling=True)
    with pytest.raises(UsageError, match="on_device_sampling was False, asked True"):
        find_reusable(copied, asked, CompileOptions(), None, need_verified=True)


TIED, VOCAB_SIZE, NAN_FROM = (70, 90), 127, 20


def strange_checkpoint(folder: Path) -> Path:
    """A gpt2 whose logits are the same for every token: all below zero, the largest two equal.

    From position 20 on they are NaN. Two ranks pad the vocabulary by one row, which gives zero.
    """
    import torch
    from transformers import AutoModelForCausalLM

    make_checkpoint(folder, family="gpt2", vocab_size=VOCAB_SIZE)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()  # the head sees one constant vector of ones
        model.transformer.ln_f.bias.fill_(1.0)
        table = model.transformer.wte.weight  # the head as well; whole eighths sum up exactly
        table.copy_(torch.round(table * 8) / 8)
        table[:, 0] -= table.sum(1) + 4.0
        table[list(TIED), 0] += 2.0
        model.transformer.wpe.weight[NAN_FROM:] = float("nan")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tp", [1, 2])
def test_ties_padding_and_logits_that_are_no_numbers(
    tp: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs_here(monkeypatch)
    checkpoint = strange_checkpoint(tmp_path / "checkpoint")
    sizes = {"max_length": 32, "prefill_buckets": (16,), "decode_buckets": (32,)}
    asked = recipe(checkpoint, tp=tp, **sizes)
    session = Session.open(build(asked, tmp_path / "art", verify=False).folder)
    both = ("logits", "tokens")

    logits, tokens = session.prefill_outputs(0, range(5), names=both)
    assert logits.shape == (1, VOCAB_SIZE)
    assert logits.max() < 0
    assert np.flatnonzero(logits[0] == logits.max()).tolist() == list(TIED)
    assert tokens.tolist() == [TIED[0]]
    session.prefill(1, range(16))
    session.prefill(1, range(4), start=16)

    positions = np.array([5, NAN_FROM], np.int32)
    logits, tokens = session.decode_outputs(np.zeros(2, np.int32), positions, names=both)
    assert np.isnan(logits).any(-1).tolist() == [False, True]
    assert tokens.tolist() == [TIED[0], VOCAB_SIZE] == [greedy(row) for row in logits]

    ask = Request(request_id="a", prompt_ids=tuple(range(15)), max_new_tokens=12)
    with pytest.raises(InputError, match="not finite: its program gave 127 as the most likely"):
        Engine(session).run([ask])


def test_a_padded_column_that_wins_fails_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens of logits that still have the padding: what a wrong order of steps would give."""
    from neuronc.trace import parallel_modules, rank_program
    from neuronc.trace.collectives import all_gather
    from neuronc.trace.greedy import greedy_tokens

    padded: list[Any] = []

    def keep(part: Any, tp: int) -> Any:
        padded.append(all_gather(part, tp))
        return padded[-1]

    monkeypatch.setattr(parallel_modules, "all_gather", keep)
    monkeypatch.setattr(rank_program, "greedy_tokens", lambda _: greedy_tokens(padded[-1][:, 0]))
    make_programs_here(monkeypatch)
    checkpoint = strange_checkpoint(tmp_path / "checkpoint")
    sizes = {"max_length": 16, "prefill_buckets": (8,), "decode_buckets": (16,)}
    told = rf"\(on the device token {VOCAB_SIZE}, of its logits {TIED[0]}\)"
    with pytest.raises(VerificationError, match=told):
        build(recipe(checkpoint, tp=2, **sizes), tmp_path / "art")
    assert not (tmp_path / "art").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "dtype"), [("gemma2", "bf16"), ("cohere", "f32"), ("granite", "f16")]
)
def test_capped_and_scaled_logits_are_those_that_it_chooses_from(
    family: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_programs_here(monkeypatch)
    random_model(family).save_pretrained(tmp_path / "checkpoint")
    sizes = {"max_length": 32, "prefill_buckets": (8,), "decode_buckets": (32,)}
    asked = recipe(tmp_path / "checkpoint", tp=2, dtype=dtype, **sizes)
    found = build(asked, tmp_path / "art").manifest.verification or {}
    assert (found["passed"], found["num_tokens"]) == (True, found["num_rows"])


def test_an_encoder_refuses_it_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    random_encoder("bert").save_pretrained(tmp_path / "encoder")
    for more in ((), ("--task", "embed")):
        argv = ["compile", str(tmp_path / "encoder"), "-o", str(tmp_path / "out"), *more]
        assert main([*argv, "--on-device-sampling", "--json"]) == 2
        error = json.loads(capfd.readouterr().out)["error"]
        assert "on_device_sampling is for generating" in error["message"]
        assert error["hint"] == "leave out --on-device-sampling"
    assert not (tmp_path / "out").exists()
