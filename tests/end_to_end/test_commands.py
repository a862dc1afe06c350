"""The verbs as a user types them, on a tiny model; stdout, exit codes and what is left on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neuronc.cli.app import main
from tests.end_to_end.resign import copy_artifact
from tests.tiny_models import make_checkpoint

SIZES = ("--batch-size", "2", "--max-length", "48", "--prefill-buckets", "16")


def run_json(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the one JSON document on stdout."""
    capfd.readouterr()
    code = main([*argv, "--json", "--quiet"])
    out = capfd.readouterr().out
    document: dict[str, Any] = json.loads(out)
    assert document["ok"] == (code == 0)
    return code, document


def run_ok(capfd: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    code, document = run_json(capfd, *argv)
    assert code == 0, document["error"]
    data: dict[str, Any] = document["data"]
    return data


def run_refused(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit code and message-plus-hint of a command that must fail."""
    code, document = run_json(capfd, *argv)
    assert code != 0
    assert document["error"]["exit_code"] == code
    return code, f"{document['error']['message']}\n{document['error']['hint']}"


def test_split_then_compile_then_verify_generate_and_bench(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights, artifact = str(tmp_path / "weights"), str(tmp_path / "artifact")
    data = run_ok(
        capfd, "split", str(tiny_checkpoint), "-o", weights, "--tp", "2", "--dtype", "f32"
    )
    assert data["padding"]["extra_q_heads"] == 3
    data = run_ok(capfd, "compile", weights, "-o", artifact, "--tp", "2", *SIZES, "--target", "cpu")
    assert data["verification"]["passed"]
    assert data["programs"] == ["prefill_16", "decode_48"]
    data = run_ok(capfd, "verify", artifact)
    assert data["passed"]
    data = run_ok(capfd, "generate", artifact, "--prompt", "hello", "--max-new-tokens", "4")
    assert data["verified"]
    assert 0 < data["answers"][0]["new_tokens"] <= 4
    asked = ("--prompt-tokens", "9", "--new-tokens", "5", "--requests", "3", "--repeats", "1")
    data = run_ok(capfd, "bench", artifact, *asked, "--mode", "latency")
    assert data["ran_on"] == "cpu"
    assert data["modes"]["latency"]["pooled"]["itl_ms"]["n"] == 3 * 4


@pytest.mark.slow
def test_unverified_is_said_everywhere(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    argv = ["compile", str(tiny_checkpoint), "-o", str(out), *SIZES, "--no-verify", "--quiet"]
    assert main(argv) == 0
    told = capfd.readouterr()
    assert "unverified" in told.out
    assert "unverified" in told.err
    assert json.loads((out / "manifest.json").read_text())["verification"] is None
    code, document = run_json(capfd, "generate", str(out), "--prompt", "a", "--max-new-tokens", "1")
    assert code == 0
    assert not document["data"]["verified"]
    assert "unverified" in document["warnings"][0]


@pytest.mark.slow
def test_build_from_a_recipe_is_reused_the_second_time(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.toml"
    text = f'checkpoint = "{tiny_checkpoint}"\nmax_length = 32\nprefill_buckets = [8]\n'
    recipe.write_text(text)
    argv = ("build", str(recipe), "-o", str(tmp_path / "artifact"))
    first = run_ok(capfd, *argv)
    again = run_ok(capfd, *argv)
    assert not first["reused"]
    assert again["reused"]
    assert again["artifact_digest"] == first["artifact_digest"]
    recipe.write_text(text.replace("[8]", "[8, 16]"))
    code, told = run_refused(capfd, *argv)
    assert code == 2
    assert "prefill_buckets was [8], asked [8, 16]" in told
    assert "--overwrite" in told


@pytest.mark.slow
def test_dumped_ir_is_numbered_by_stage(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "ir"
    argv = ("compile", str(tiny_checkpoint), "-o", str(tmp_path / "a"), "--max-length", "32")
    run_ok(
        capfd,
        *argv,
        "--batch-size",
        "2",
        "--prefill-buckets",
        "8",
        "--no-verify",
        "--dump-ir",
        str(dump),
    )
    for program in ("prefill_8", "decode_32"):
        names = sorted(path.name for path in (dump / program).iterdir())
        assert names == ["01-exported.txt", "02-torch.mlir", "03-stablehlo.mlir", "04-hlo.pb"]
        text = (dump / program / "03-stablehlo.mlir").read_text()
        # 2 layers of 7 linears, and the head: each one product that reads its weight as it lies.
        assert text.count("contracting_dims = [1] x [1]") == 15
        for banned in ("f64", "xi64>", "complex", "dynamic", "?x"):
            assert banned not in text.replace("tensor<1x2xi64>", "")


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("--tp", "0"), 2, "--tp is 0"),
        (("--tp", "16"), 4, "num_attention_heads=9"),
        (("--max-length", "4096"), 4, "beyond the model's 128 positions"),
        (("--max-length", "16", "--prefill-buckets", "32"), 2, "more than max_length 16"),
        (("--prefill-buckets", "8,x"), 2, "--prefill-buckets is '8,x'"),
        (("--target", "inf2"), 5, "neuronx-cc is not on the PATH"),
        (("--dtype", "f8"), 2, "f8"),
    ],
)
def test_impossible_options_are_refused_by_name_and_leave_nothing(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    out = tmp_path / "artifact"
    found, message = run_refused(capfd, "compile", str(tiny_checkpoint), "-o", str(out), *argv)
    assert found == code
    assert told in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_attention_window_shorter_than_the_cache_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint", family="mistral", sliding_window=7)
    argv = ("compile", str(checkpoint), "-o", str(tmp_path / "out"), "--max-length", "32")
    run_ok(capfd, *argv, "--prefill-buckets", "8", "--tp", "2")
    verification = json.loads((tmp_path / "out" / "manifest.json").read_text())["verification"]
    assert verification["passed"]
    assert "decode_32" in verification["by_program"]


def test_an_output_folder_that_exists_is_kept(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for verb in ("split", "compile", "build"):
        code, told = run_refused(capfd, verb, str(tiny_checkpoint), "-o", str(tmp_path / "mine"))
        assert code == 2
        assert "exists" in told
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_unknown_architecture_names_the_nearest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "model_type": "lama"}))
    code, told = run_refused(capfd, "compile", str(checkpoint), "-o", str(tmp_path / "out"))
    assert code == 3
    assert "'lama'" in told
    assert "llama" in told


def test_a_prompt_longer_than_the_cache_is_refused(
    tiny_artifact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ("generate", str(tiny_artifact), "--prompt", "word " * 200)
    code, told = run_refused(capfd, *argv)
    assert code == 4
    assert "max length is 64" in told


def test_a_split_for_another_tp_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = str(tmp_path / "weights")
    run_ok(capfd, "split", str(tiny_checkpoint), "-o", weights, "--tp", "2")
    code, told = run_refused(capfd, "compile", weights, "-o", str(tmp_path / "a"), "--tp", "3")
    assert code == 4
    assert "split for tp=2" in told


def test_a_failed_verification_is_exit_6_with_its_numbers(
    tiny_artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = make_checkpoint(tmp_path / "other", seed=1)
    artifact = copy_artifact(tiny_artifact, tmp_path / "artifact")
    code, document = run_json(capfd, "verify", str(artifact), "--checkpoint", str(other))
    assert code == 6
    assert document["data"]["passed"] is False
    assert document["data"]["max_ulp"] > document["data"]["tolerance_ulp"]
    assert document["error"]["kind"] == "verification"


@pytest.mark.parametrize("delay_s", [0.8, 4.0, 9.0])
def test_an_interrupt_is_exit_130_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, delay_s: float
) -> None:
    out = tmp_path / "sub" / "artifact"
    command = [sys.executable, "-m", "neuronc", "compile", str(tiny_checkpoint), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "interrupted" in told
    assert "Traceback" not in told
    assert not list((tmp_path / "sub").iterdir() if out.parent.exists() else [])
    assert _workers_of(out) == []


def _workers_of(out: Path) -> list[str]:
    """Command lines of processes that still work for ``out``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(out.parent) in line:
                found.append(line)
    return found


def test_a_worker_that_dies_is_told_with_its_cause(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Startup code that a Python finds on its path aborts the process, as MLIR would.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, os\nif 'neuronc.lower.worker' in ' '.join(sys.orig_argv): os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    out = tmp_path / "artifact"
    command = [sys.executable, "-m", "neuronc", "compile", str(tiny_checkpoint), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert "died of SIGABRT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
