"""``verify --bisect`` names the layer in which a difference begins."""

import json
from pathlib import Path

import pytest

from neuronc.cli.app import main
from tests.end_to_end.resign import copy_artifact
from tests.tiny_families import random_encoder


def layers_of(capfd: pytest.CaptureFixture[str]) -> list[tuple[str, str, bool]]:
    found = json.loads(capfd.readouterr().out)["data"]["layers"]
    return [(layer["program"], layer["layer"], layer["differs"]) for layer in found]


@pytest.mark.slow
def test_an_artifact_that_is_right_differs_nowhere(
    tiny_artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = copy_artifact(tiny_artifact, tmp_path / "artifact")

    assert main(["verify", str(artifact), "--bisect", "--quiet", "--json"]) == 0

    assert layers_of(capfd) == [
        (program, f"model.layers.{number}", False)
        for program in ("prefill_8", "decode_32")
        for number in range(2)
    ]


@pytest.mark.slow
def test_the_first_layer_that_differs_is_named(
    tiny_artifact: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from transformers import AutoModelForCausalLM

    other = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    other.model.layers[1].mlp.up_proj.weight.data *= 1.1
    other.save_pretrained(tmp_path / "other")
    artifact = copy_artifact(tiny_artifact, tmp_path / "artifact")
    argv = ["verify", str(artifact), "--checkpoint", str(tmp_path / "other"), "--bisect"]

    assert main([*argv, "--quiet", "--json"]) == 6

    assert layers_of(capfd) == [
        (program, f"model.layers.{number}", number == 1)
        for program in ("prefill_8", "decode_32")
        for number in range(2)
    ]


@pytest.mark.slow
def test_an_encoder_is_told_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = random_encoder("bert")
    model.save_pretrained(tmp_path / "checkpoint")
    out = str(tmp_path / "artifact")
    sizes = ["--max-length", "8", "--tp", "2", "--dtype", "bf16", "--quiet"]
    assert main(["compile", str(tmp_path / "checkpoint"), "-o", out, *sizes]) == 0
    model.encoder.layer[0].output.LayerNorm.weight.data *= 3
    model.save_pretrained(tmp_path / "other")
    argv = ["verify", out, "--checkpoint", str(tmp_path / "other"), "--bisect", "--quiet"]
    capfd.readouterr()

    assert main(argv) == 6
    assert "embed_8 differs from encoder.layer.0 on" in capfd.readouterr().out
