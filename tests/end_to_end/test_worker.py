"""The worker behind ``compile``: it comes to an end whatever the model, and with its command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import make_checkpoint

_GPTJ: dict[str, Any] = {
    "n_embd": 64,
    "n_head": 1,
    "n_layer": 1,
    "n_positions": 2048,
    "rotary_dim": 64,
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_table_of_2048_positions_is_compiled(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "gptj", family="gptj", tokenizer=False, **_GPTJ)
    command = [sys.executable, "-m", "neuronc", "compile", str(checkpoint)]
    options = ["-o", str(tmp_path / "out"), "--max-length", "32", "--prefill-buckets", "8"]

    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=150
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_a_command_that_is_ended(
    tiny_checkpoint: Path, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "artifact"
    command = [sys.executable, "-m", "neuronc", "compile", str(tiny_checkpoint), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        _wait_until(lambda: len(_workers_of(out)) > 1, limit_s=60)  # it has forked
        process.send_signal(how)

    assert process.returncode == (130 if how == signal.SIGTERM else -how)
    _wait_until(lambda: not _workers_of(out), limit_s=1)  # less than a step of theirs takes


def _wait_until(condition: Callable[[], bool], *, limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def _workers_of(out: Path) -> list[int]:
    """Workers that still run for ``out``."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                line = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if b"neuronc.lower.worker" in line and str(out.parent).encode() in line:
                found.append(int(process.name))
    return found
