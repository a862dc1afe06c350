"""Make programs in worker processes, a few at a time, and say clearly how one failed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.errors import CompilerError, HostMemoryError, NeuroncError
from neuronc.lower.program_files import JOB, KEPT, LOG, RESULT
from neuronc.progress import SILENT, Progress, Stage
from neuronc.trace.program_spec import ProgramSpec

_LOG_LINES = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramJob:
    """What a worker needs to make one program.

    Attributes:
        name: Folder of the program under ``programs/``.
        tp: Number of ranks.
        signature: Given when relinking: compile the StableHLO that is there, trace nothing.
        spec: Phase, bucket and sizes; None when relinking.
        config: config.json of the model.
        source: The checkpoint's name, for messages.
        shapes: Whole shape of every parameter.
        dtype: Element type of weights and arithmetic.
        dump_ir: Folder for numbered IR dumps, or None.
    """

    name: str
    tp: int
    signature: Mapping[str, Any] | None = None
    spec: ProgramSpec | None = None
    config: Mapping[str, Any] | None = None
    source: str = ""
    shapes: Mapping[str, Sequence[int]] | None = None
    dtype: str = ""
    dump_ir: str | None = None


def run_jobs(jobs: Sequence[ProgramJob], programs_dir: Path, *, progress: Progress = SILENT) -> int:
    """Run ``jobs`` in ``programs_dir/NAME``, as many at a time as there are cores (at most 4).

    Returns:
        Largest resident memory of a worker, in bytes.

    Raises:
        NeuroncError: the first failure; the other workers are stopped.
    """
    running: list[subprocess.Popen[str]] = []
    workers = min(len(jobs), len(os.sched_getaffinity(0)), 4)
    pool = ThreadPoolExecutor(max_workers=workers)
    with progress.stage("compiling programs", total=len(jobs), unit="programs") as stage:
        futures = [pool.submit(_run, job, programs_dir / job.name, running, stage) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return max(future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.kill()
            pool.shutdown()


def _run(job: ProgramJob, folder: Path, running: list[subprocess.Popen[str]], stage: Stage) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB).write_text(json.dumps(asdict(job)), encoding="utf-8")
    with (folder / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "neuronc.lower.worker", str(folder / JOB)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(),
        )
        running.append(process)
        for line in process.stdout or ():
            if line.startswith("{"):
                stage.advance(0, note=f"{job.name}: {json.loads(line)['stage']}")
        code = process.wait()
    peak = _result(job, folder, code)
    for scratch in folder.iterdir():
        if scratch.name not in KEPT:
            scratch.unlink()
    stage.advance(1, note=f"{job.name}: done")
    return peak


def _environment() -> dict[str, str]:
    """The worker's environment: nothing in it may change what is compiled."""
    dropped = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _result(job: ProgramJob, folder: Path, code: int) -> int:
    """Peak memory of a worker that succeeded; the error of one that did not."""
    if code == 0 and (folder / RESULT).exists():
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if "error" in result:
            exit_code, message, hint = result["error"]
            told = f"program {job.name}: {message}"
            raise _class_of(exit_code)(told, hint=hint)
        return int(result["peak_rss_bytes"])
    tail = "\n".join((folder / LOG).read_text(errors="replace").splitlines()[-_LOG_LINES:])
    if code == -signal.SIGKILL:
        message = f"the worker for program {job.name} was killed, most likely for lack of memory"
        raise HostMemoryError(message, hint="free memory, or compile fewer programs at once")
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    message = f"the worker for program {job.name} {how}\n{tail}"
    hint = "run again with --dump-ir DIR to see how far lowering got"
    raise CompilerError(message, hint=hint)


def _class_of(exit_code: int) -> type[NeuroncError]:
    for kind in NeuroncError.__subclasses__():
        if kind.exit_code == exit_code:
            return kind
    return CompilerError
