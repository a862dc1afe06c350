"""Programs made by this process instead of a worker, which takes a third of the time.

What the worker adds is seconds of imports and a wall around a crash of MLIR; where only a program's
numbers are wanted, neither is.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from neuronc import pipeline
from neuronc.cache.cache import Cache
from neuronc.lower import worker
from neuronc.lower.jobs import Elsewhere, ProgramJob, Programs
from neuronc.lower.program_files import JOB, RESULT, SCRATCH
from neuronc.progress import SILENT, Progress


def make_programs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the test, `neuronc.pipeline.build` starts no worker."""
    monkeypatch.setattr(pipeline, "run_jobs", _run_jobs)


def _run_jobs(
    jobs: Sequence[ProgramJob],
    programs_dir: Path,
    *,
    cache: Cache | None = None,
    frozen: bool = False,
    num_parallel: int | None = None,
    elsewhere: Elsewhere | None = None,
    progress: Progress = SILENT,
) -> Programs:
    for job in jobs:
        folder = programs_dir / job.name
        folder.mkdir(parents=True)
        (folder / JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")
        worker.run_job(folder / JOB)
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        assert "error" not in result, result
        for name in SCRATCH:
            (folder / name).unlink(missing_ok=True)
    return Programs(made=tuple(job.name for job in jobs), reused=())
