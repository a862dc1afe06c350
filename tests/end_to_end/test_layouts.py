"""Folders of other tools as a user makes and takes them, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from neuronc.artifact.reuse import describe_request
from neuronc.cli.app import main
from neuronc.recipe import Recipe
from tests.end_to_end.test_commands import run_ok, run_refused

SIZES = ("--max-length", "32", "--prefill-buckets", "8")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def write(
    capfd: pytest.CaptureFixture[str], source: Path, out: Path, *flags: str
) -> dict[str, Any]:
    return run_ok(capfd, "split", str(source), "-o", str(out), *flags)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--layout", "transformers-neuronx"),
        ("--layout", "nxdi", "--tp", "2"),
    ],
)
def test_a_layout_is_split_compiled_and_verified_like_its_checkpoint(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    out = tmp_path / "layout"
    data = write(capfd, tiny_checkpoint, out, *flags)
    assert data["layout"] == flags[1]
    assert {*data["files"], "split.json"} == files_in(out)
    assert {"config.json", "tokenizer.json"} <= set(data["files"])
    expected = write(capfd, tiny_checkpoint, tmp_path / "one", "--tp", "3")
    again = write(capfd, out, tmp_path / "two", "--tp", "3")
    assert again["bytes_per_rank"] == expected["bytes_per_rank"]
    for name in files_in(tmp_path / "one") - {"split.json"}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    artifact = str(tmp_path / "artifact")
    data = run_ok(capfd, "compile", str(out), "-o", artifact, *SIZES)
    assert data["verification"]["passed"]
    assert run_ok(capfd, "verify", artifact, "--checkpoint", str(out))["passed"]


@pytest.mark.parametrize(
    ("layout", "weights"),
    [("transformers-neuronx", "pytorch_model.bin"), ("nxdi", "weights")],
)
def test_weights_that_change_in_a_folder_below_are_no_longer_the_artifacts(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    layout: str,
    weights: str,
) -> None:
    out = tmp_path / "layout"
    write(capfd, tiny_checkpoint, out, "--layout", layout)
    recipe = Recipe(checkpoint=str(out))
    before = describe_request(recipe)
    assert describe_request(recipe) == before
    for path in (out / weights).iterdir():
        path.touch()
        assert describe_request(recipe) != before
        before = describe_request(recipe)


@pytest.mark.parametrize("layout", ["transformers-neuronx", "nxdi"])
def test_a_layout_of_ours_may_be_replaced_and_no_other_folder(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], layout: str
) -> None:
    out = tmp_path / "layout"
    write(capfd, tiny_checkpoint, out, "--layout", layout)
    before = files_in(out)
    write(capfd, tiny_checkpoint, out, "--layout", layout, "--overwrite")
    assert files_in(out) == before
    (out / "split.json").unlink()
    argv = ("split", str(tiny_checkpoint), "-o", str(out), "--layout", layout, "--overwrite")
    code, told = run_refused(capfd, *argv)
    assert code == 2
    assert "was not made by neuronc" in told
    assert files_in(out) == before - {"split.json"}


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (("--layout", "transformers-neuronx", "--tp", "2"), 2, "leave out --tp"),
        (("--layout", "vllm"), 2, "vllm"),
        (("--layout", "nxdi", "--tp", "16"), 4, "num_attention_heads=9"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_and_leaves_nothing(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    argv = ("split", str(tiny_checkpoint), "-o", str(tmp_path / "out"), *flags)
    found, message = run_refused(capfd, *argv)
    assert found == code
    assert told in message
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_parameter_file_ends_a_build_before_it_begins(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, trace = tmp_path / "layout", tmp_path / "was_here"
    write(capfd, tiny_checkpoint, out, "--layout", "transformers-neuronx")
    path = next((out / "pytorch_model.bin").glob("p3.*"))
    torch.save(_Bomb(trace), path)
    for verb in ("split", "compile", "build"):
        code, told = run_refused(capfd, verb, str(out), "-o", str(tmp_path / "new"))
        assert code == 3
        assert path.name in told
    assert not trace.exists()
    assert not (tmp_path / "new").exists()


class _Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


def test_the_report_for_people_names_layout_and_files(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for layout, words in (
        ("transformers-neuronx", "pytorch_model.bin/ (22), "),
        ("nxdi", "weights/ (1), "),
        ("neuronc", "rank-0.safetensors, "),
    ):
        argv = ["split", str(tiny_checkpoint), "-o", str(tmp_path / layout), "--layout", layout]
        capfd.readouterr()
        assert main([*argv, "--quiet"]) == 0
        out = capfd.readouterr().out
        assert words in out
        assert layout in out.splitlines()[1]


def test_a_layout_says_its_number_of_ranks_in_its_own_words(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ("--layout", "nxdi", "--tp", "2", "--dtype", "bf16")
    data = write(capfd, tiny_checkpoint, tmp_path / "out", *flags)
    assert len(data["bytes_per_rank"]) == 2
    found = json.loads((tmp_path / "out" / "neuron_config.json").read_text())["neuron_config"]
    assert (found["tp_degree"], found["torch_dtype"]) == (2, "bfloat16")
