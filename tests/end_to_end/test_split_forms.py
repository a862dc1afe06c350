"""Links, files in parts, and the way back: each compiled, verified and run like any split."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from neuronc.cli.app import main

SIZES = ("--max-length", "32", "--prefill-buckets", "8", "--batch-size", "2")


def run(capfd: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert main([*argv, "--json", "--quiet"]) == code
    document: dict[str, Any] = json.loads(capfd.readouterr().out)
    return document


@pytest.mark.slow
def test_a_linked_split_and_one_in_parts_make_the_same_artifact(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, linked, parts = str(tiny_checkpoint), str(tmp_path / "linked"), str(tmp_path / "parts")
    of_links = run(capfd, "split", source, "-o", linked, "--tp", "2", "--link")["data"]
    of_parts = run(capfd, "split", source, "-o", parts, "--tp", "2", "--max-file-size", "30KB")
    answers = []
    for split in (linked, parts):
        artifact = f"{split}-artifact"
        made = run(capfd, "compile", split, "-o", artifact, "--tp", "2", *SIZES)["data"]
        assert made["verification"]["passed"]
        prompt = ("--prompt", "word", "--max-new-tokens", "4")
        answers.append(run(capfd, "generate", artifact, *prompt)["data"]["answers"])

    assert of_links["linked"]
    assert of_links["bytes_written"] < 100_000 < sum(of_links["bytes_per_rank"])
    assert not list(Path(f"{linked}-artifact").rglob("*.safetensors"))
    assert len(list(Path(f"{parts}-artifact").rglob("rank-1-*.safetensors"))) > 1
    assert of_parts["data"]["bytes_per_rank"][0] > of_links["bytes_per_rank"][0]
    assert answers[0] == answers[1]
    os.utime(tiny_checkpoint / "model.safetensors")
    refused = run(capfd, "verify", f"{linked}-artifact", code=3)
    assert "changed after it was linked" in refused["error"]["message"]


def test_a_split_is_split_again_and_put_together(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / name) for name in ("three", "two", "direct", "back")]
    three, two, direct, back = names
    run(capfd, "split", str(tiny_checkpoint), "-o", three, "--tp", "3")
    run(capfd, "split", three, "-o", two, "--tp", "2")
    run(capfd, "split", str(tiny_checkpoint), "-o", direct, "--tp", "2")
    told = run(capfd, "unsplit", two, "-o", back)

    for rank in range(2):
        path = f"rank-{rank}.safetensors"
        assert (Path(two) / path).read_bytes() == (Path(direct) / path).read_bytes()
    assert told["warnings"] == []
    expected = load_file(tiny_checkpoint / "model.safetensors")
    found = load_file(Path(back) / "model.safetensors")
    assert {n: a.tobytes() for n, a in found.items()} == {
        n: a.tobytes() for n, a in expected.items()
    }


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("--max-memory", "lots"), 2, "expected a size such as 1GiB"),
        (("--max-memory", "1MB"), 4, "a split takes"),
        (("--max-file-size", "1KB"), 4, "--max-file-size is 1000"),
        (("--link", "--layout", "nxdi"), 2, "--link and layout nxdi"),
        (("--link", "--dtype", "bf16"), 2, "--link to bf16"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    out = str(tmp_path / "out")
    told = run(capfd, "split", str(tiny_checkpoint), "-o", out, *argv, code=code)
    assert message in told["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_unsplit_refuses_what_is_no_split(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = run(capfd, "unsplit", str(tiny_checkpoint), "-o", str(tmp_path / "out"), code=3)
    assert "is not a split folder" in told["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_unsplit_keeps_the_folder_that_the_split_is_in(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, inner = tmp_path / "out", str(tmp_path / "out" / "weights")
    run(capfd, "split", str(tiny_checkpoint), "-o", str(out))
    run(capfd, "split", str(tiny_checkpoint), "-o", inner)
    told = run(capfd, "unsplit", inner, "-o", str(out), "--overwrite", code=2)
    assert f"holds the split folder {inner}" in told["error"]["message"]
    assert (out / "weights" / "rank-0.safetensors").is_file()
