"""No verb uses the network unless a URL or a Hub id was given.

Each test starts processes under `tests/no_network/sitecustomize.py`, and nothing tells the
libraries to stay offline: the promise is ours.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_families import random_encoder
from tests.tiny_models import make_checkpoint, make_tokenizer

ROOT = Path(__file__).parents[2]
GUARD = ROOT / "tests" / "no_network"
_IN_ONE_PROCESS = """
import json, sys
from neuronc.cli.app import main
for argv in json.load(sys.stdin):
    print(main(argv), *argv, file=sys.stderr, flush=True)
"""
"""One process for many verbs: importing torch takes longer than most of them."""

OF_A_MODEL = (
    ("split", "model", "-o", "split"),
    ("unsplit", "split", "-o", "whole"),
    ("lock", "some.toml"),
    ("models",),
    ("explain", "EVRF009"),
    ("doctor",),
    ("version",),
)
SIZES = ("--max-length", "32", "--prefill-buckets", "8")
COMPILE = ("compile", "split", "-o", "artifact", *SIZES)
OF_AN_ARTIFACT = (
    ("generate", "artifact", "--prompt", "a b", "--max-new-tokens", "2"),
    (
        "bench", "artifact", "--mode", "latency", "--prompt-tokens", "4", "--new-tokens", "2",
        "--requests", "2", "--repeats", "2",
    ),
    ("inspect", "artifact"),
)  # fmt: skip
WITH_A_REFERENCE = (
    ("verify", "artifact", "--checkpoint", "model"),
    ("refit", "artifact", "--weights", "other", "-o", "refitted"),
    ("build", "some.toml"),
)


def run(folder: Path, *argv: str, told: str = "") -> tuple[subprocess.CompletedProcess[str], str]:
    """A Python process in ``folder`` without the network, and what it tried to do with it."""
    log = folder / "network.log"
    told_apart = ("HF_", "TRANSFORMERS_", "NO_NETWORK", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(told_apart)}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(GUARD), str(ROOT)]),
        "NO_NETWORK_LOG": str(log),
        "HF_HOME": str(folder / "empty"),
    }
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env=environment,
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    return done, log.read_text(encoding="utf-8") if log.exists() else ""


def run_verbs(folder: Path, verbs: Any) -> None:
    done, tried = run(folder, "-c", _IN_ONE_PROCESS, told=json.dumps(verbs))
    assert tried == ""
    assert done.returncode == 0, done.stderr[-3000:]
    codes = [line.split()[:2] for line in done.stderr.splitlines() if line[:2] in ("0 ", "1 ")]
    assert codes == [["0", argv[0]] for argv in verbs], done.stderr[-3000:]


def make_models(folder: Path) -> None:
    for seed, name in enumerate(("model", "other")):
        make_checkpoint(folder / name, family="opt", seed=seed)
    text = 'checkpoint = "./model"\nmax_length = 16\nprefill_buckets = [8]\n[[build]]\ntp = 1\n'
    (folder / "some.toml").write_text(text)


def test_verbs_use_no_network(tmp_path: Path, tiny_artifact: Path) -> None:
    make_models(tmp_path)
    shutil.copytree(tiny_artifact, tmp_path / "artifact")
    run_verbs(tmp_path, (*OF_A_MODEL, *OF_AN_ARTIFACT))


@pytest.mark.slow
def test_whole_path_uses_no_network(tmp_path: Path) -> None:
    make_models(tmp_path)
    run_verbs(tmp_path, (*OF_A_MODEL, COMPILE, *OF_AN_ARTIFACT, *WITH_A_REFERENCE))


@pytest.mark.slow
def test_encoder_uses_no_network(tmp_path: Path) -> None:
    random_encoder("bert").save_pretrained(tmp_path / "model")
    make_tokenizer(tmp_path / "model")
    text = ("embed", "artifact", "--text", "a b")
    compile_ = ("compile", "model", "-o", "artifact", "--max-length", "16", "--buckets", "16")
    run_verbs(tmp_path, (compile_, text))


@pytest.mark.parametrize("source", ["org/name", "hf://org/name", "http://localhost:9/model"])
def test_hub_id_and_url_do_use_it(tmp_path: Path, source: str) -> None:
    _, tried = run(tmp_path, "-m", "neuronc", "split", source, "-o", "out")
    assert "socket.getaddrinfo" in tried
    assert not (tmp_path / "out").exists()


SWALLOWS = """
import socket, sys
try:
    socket.create_connection(("192.0.2.1", 9), timeout=1)
except OSError:
    pass
"""
IN_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SWALLOWS!r}])"
IN_A_FORK = f"import os\nif os.fork() == 0:\n exec({SWALLOWS!r})\n os._exit(0)\nos.wait()"


@pytest.mark.parametrize("code", [SWALLOWS, IN_A_CHILD, IN_A_FORK], ids=["", "child", "fork"])
def test_guard_tells_of_an_attempt_whose_error_nobody_sees(tmp_path: Path, code: str) -> None:
    done, tried = run(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "192.0.2.1" in tried


@pytest.mark.parametrize(("family", "code"), [(2, -31), (10, -31), (1, 0)])
def test_guard_kills_what_is_no_python_and_lets_unix_sockets_be(
    tmp_path: Path, family: int, code: int
) -> None:
    call = f"import ctypes; ctypes.CDLL(None).socket({family}, 1, 0)"
    assert run(tmp_path, "-c", call)[0].returncode == code
