"""The worker's processes: no fork beside threads, none left alone, none silent without a word."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neuronc.lower import follow_worker
from neuronc.lower.children import PARENT, num_threads, start_child
from neuronc.lower.jobs import ProgramJob, run_jobs
from tests.tiny_families import TINY_FAMILIES

_WARM_UP = """
import json, sys
from neuronc.lower.children import num_threads
from neuronc.lower.worker import _import_heavy
for config in sys.argv[1:]:
    _import_heavy([{"config": json.loads(config)}])
    print(num_threads())
"""


def test_nothing_has_started_a_thread_when_the_worker_forks() -> None:
    # As on a machine with many cores, whatever this one has.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}
    configs = [_with_positions(v, 2048) for v in ("gptj", "gpt_neo", "gpt_bigcode", "codegen")]

    done = subprocess.run(
        [sys.executable, "-c", _WARM_UP, *map(json.dumps, configs)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )

    assert done.stdout.split() == ["1"] * len(configs)


def _with_positions(variant: str, number: int) -> dict[str, Any]:
    family, fields = TINY_FAMILIES[variant]
    names = ("n_positions", "max_position_embeddings")
    return {"model_type": family, **fields, **{name: number for name in names if name in fields}}


def test_beside_a_thread_a_child_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    command = [sys.executable, "-c", f"import os, sys; sys.exit(os.environ['{PARENT}'])"]

    with _a_thread():
        pid = start_child(lambda: 0, command, log)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert log.read_text().strip() == str(os.getpid())


@contextmanager
def _a_thread() -> Iterator[None]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        assert num_threads() > 1
        yield
    finally:
        end.set()
        thread.join()


class Notes:
    """A stage that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.told.append(note)

    @contextmanager
    def stage(
        self, title: str, *, total: float | None = None, unit: str = "", still: bool = False
    ) -> Iterator["Notes"]:
        yield self


def test_how_long_a_worker_has_been_silent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent"
    silent.write_text(
        f"#!{sys.executable}\nimport time\n"
        """print('{"job": "decode_32", "stage": "lowering"}', flush=True)\ntime.sleep(0.6)\n"""
    )
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr(follow_worker, "_BEAT_S", 0.2)
    notes = Notes()

    run_jobs([ProgramJob(name="decode_32", tp=1)], tmp_path, progress=notes)

    assert "decode_32: lowering, silent for 0 s" in notes.told
