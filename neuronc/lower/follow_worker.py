"""Starts the process that makes programs, follows what it says, and tells clearly how one failed."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from neuronc.errors import CompilerError, HostMemoryError, NeuroncError, error_of
from neuronc.lower.children import PARENT
from neuronc.lower.program_files import JOB, LOG, RESULT, SCRATCH
from neuronc.progress import Progress, Stage

_LOG_LINES = 15
_BEAT_S = 5.0
_WORKER = "the compiling worker"


def run_worker(
    jobs: Mapping[str, Mapping[str, Any]], programs_dir: Path, num_parallel: int, progress: Progress
) -> int:
    """Make the programs of ``jobs``, JSON by name, in ``programs_dir/NAME``, in worker processes.

    Returns:
        Largest resident memory of one, in bytes.

    Raises:
        NeuroncError: the first failure; the other workers are stopped.
    """
    for name, job in jobs.items():
        (programs_dir / name / JOB).write_text(json.dumps(job), encoding="utf-8")
    files = [str(programs_dir / name / JOB) for name in jobs]
    command = [sys.executable, "-m", "neuronc.lower.worker", str(num_parallel), *files]
    with (
        progress.stage("compiling programs", total=len(jobs), unit="programs") as stage,
        (programs_dir / LOG).open("w", encoding="utf-8") as log,
        # A group of its own, so that an interrupt ends the children as well, once and by us.
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            bufsize=0,
            stderr=log,
            env=_environment(),
            start_new_session=True,
        ) as worker,
    ):
        try:
            peak = _follow(worker, programs_dir, stage)
            code = worker.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
    if code != 0:
        raise _death(_WORKER, code, programs_dir / LOG)
    (programs_dir / LOG).unlink()
    return peak


def _follow(worker: subprocess.Popen[bytes], programs_dir: Path, stage: Stage) -> int:
    """Read the worker's lines until it ends; the largest memory of its children.

    While it says nothing, the stage is told for how long.
    """
    peak, last, heard_s = 0, "importing torch", time.monotonic()
    phases: dict[str, str] = {}
    for line in _lines(worker.stdout, every_s=_BEAT_S):
        if line is None:
            stage.advance(0, note=f"{last}, silent for {time.monotonic() - heard_s:.0f} s")
            continue
        if not line.startswith(b"{"):  # a library that prints to stdout
            continue
        event, heard_s = json.loads(line), time.monotonic()
        if "folder" in event:
            folder = programs_dir / event["folder"]
            peak = max(peak, _result(folder, event["exit"]))
            for name in SCRATCH:
                (folder / name).unlink(missing_ok=True)
            last = f"{folder.name}: done"
            stage.advance(1, note=last)
            continue
        if "stage" in event:
            phases[event["job"]] = event["stage"]
        last = _note_of(event, phases)
        stage.advance(0, note=last)
    return peak


def _note_of(event: Mapping[str, Any], phases: Mapping[str, str]) -> str:
    """What every running program does, for how long, and the memory it holds."""
    if "note" in event:
        return str(event["note"])
    if "stage" in event:
        return f"{event['job']}: {event['stage']}"
    notes = [
        f"{name}: {phases.get(name, 'starting')}, {elapsed_s:.0f} s, {held / 2**30:.2f} GiB"
        for name, (elapsed_s, held) in event["running"].items()
    ]
    waiting = [f"{event['waiting']} waiting"] if event["waiting"] else []
    return "; ".join([*notes, *waiting])


def _lines(pipe: IO[bytes] | None, *, every_s: float) -> Iterator[bytes | None]:
    """Lines of an unbuffered ``pipe`` until it ends; None whenever nothing came for ``every_s``."""
    if pipe is None:
        return
    begun = b""
    while True:
        if not select.select([pipe], [], [], every_s)[0]:
            yield None
            continue
        read = os.read(pipe.fileno(), 1 << 16)
        if not read:
            return
        *whole, begun = (begun + read).split(b"\n")
        yield from whole


def _environment() -> dict[str, str]:
    """The worker's environment: nothing in it may change what is compiled."""
    dropped = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {
        **kept,
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        # OpenBLAS on import and OpenMP at work would start threads before the worker forks.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        PARENT: str(os.getpid()),
    }


def _result(folder: Path, code: int) -> int:
    """Peak memory of a child that succeeded; the error of one that did not."""
    if code != 0 or not (folder / RESULT).exists():
        subject = f"program {folder.name}"
        raise _death(subject, code, folder / LOG)
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    if "error" in result:
        exit_code, message, hint = result["error"]
        raise error_of(exit_code, f"program {folder.name}: {message}", hint=hint)
    return int(result["peak_rss_bytes"])


def _death(subject: str, code: int, log: Path) -> NeuroncError:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    if code == -signal.SIGKILL:
        message = f"{subject}: its process was killed, most likely for lack of memory"
        return HostMemoryError(message, hint="free memory, or compile fewer programs")
    how = f"died of {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    message = f"{subject}: its process {how}\n{tail}".rstrip()
    return CompilerError(message, hint="run again with --dump-ir DIR to see how far it got")
