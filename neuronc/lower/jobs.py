"""Make programs in worker processes, a few at a time, and say clearly how one failed."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from neuronc.cache.cache import Cache
from neuronc.cache.explain import frozen_error, known_bytes
from neuronc.errors import CompilerError, HostMemoryError, NeuroncError, error_of
from neuronc.lower.cached_program import Missing, take_program_files
from neuronc.lower.children import PARENT
from neuronc.lower.program_files import JOB, LOG, RESULT, SCRATCH
from neuronc.progress import SILENT, Progress, Stage
from neuronc.trace.program_spec import ProgramSpec

_LOG_LINES = 15
_BEAT_S = 5.0
_WORKER = "the compiling worker"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramJob:
    """What a worker needs to make one program.

    Attributes:
        name: Folder of the program under ``programs/``.
        tp: Number of ranks.
        signature: Given when relinking: compile the program that is there, trace nothing.
        spec: Phase, bucket and sizes; None when relinking.
        config: config.json of the model.
        source: The checkpoint's name, for messages.
        shapes: Whole shape of every parameter; None where there is no checkpoint: they then
            follow from ``config``.
        dtype: Element type of weights and arithmetic.
        quantize: How weights are quantised, a key of `neuronc.parallel.quantize.SCHEMES`.
        target: A Neuron target's program is legalised for neuronx-cc, and compiled as legalised.
        make_executable: Whether XLA:CPU compiles it.
        taps: Whether it gives out what every layer does.
        top_k_call: Whether neuronx-cc gets its own custom call for top-k.
        dump_ir: Folder for numbered IR dumps, or None.
        cache: Address of the store; None for none.
        known_bytes: Memory that such a program took before; None if nothing is known.
    """

    name: str
    tp: int
    signature: Mapping[str, Any] | None = None
    spec: ProgramSpec | None = None
    config: Mapping[str, Any] | None = None
    source: str = ""
    shapes: Mapping[str, Sequence[int]] | None = None
    dtype: str = ""
    quantize: str | None = None
    target: str = "cpu"
    make_executable: bool = True
    taps: bool = False
    top_k_call: bool = False
    dump_ir: str | None = None
    cache: Mapping[str, str | None] | None = None
    known_bytes: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Programs:
    """How the programs of a build came to be.

    Attributes:
        made: Names of those that were traced or compiled now.
        reused: Names of those that the store had whole.
        peak_rss_bytes: Largest resident memory of a worker; 0 if none ran.
        damage: What was found damaged in the store, in words.
    """

    made: tuple[str, ...]
    reused: tuple[str, ...]
    peak_rss_bytes: int = 0
    damage: tuple[str, ...] = ()


def run_jobs(
    jobs: Sequence[ProgramJob],
    programs_dir: Path,
    *,
    cache: Cache | None = None,
    frozen: bool = False,
    num_parallel: int | None = None,
    progress: Progress = SILENT,
) -> Programs:
    """Make the programs of ``jobs`` in ``programs_dir/NAME``, the smallest first.

    What ``cache`` has is taken from there, and what is made is kept there at once, so that it
    survives another's failure. Where all is there, no worker is started and torch not imported.

    Args:
        jobs: What to make.
        programs_dir: Where.
        cache: The store; none for programs that are to be made whatever there is.
        frozen: Refuse to make one.
        num_parallel: At once, at most; None for as many as cores, up to 4. Memory may allow fewer.
        progress: Told of every program that runs.

    Raises:
        FrozenError: ``frozen``, and the store lacks one; says which, and what differs.
        NeuroncError: the first failure; the other workers are stopped.
    """
    told = {job.name: asdict(job) for job in sorted(jobs, key=_bucket)}
    missing: dict[str, Missing | None] = {}
    for name, job in told.items():
        (programs_dir / name).mkdir(parents=True, exist_ok=True)
        missing[name] = None if cache is None else _take(job, programs_dir / name, cache)
    needed = {n: j for n, j in told.items() if cache is None or missing[n] is not None}
    found = [one for one in missing.values() if one is not None]
    if cache is not None and found:
        if frozen:
            raise frozen_error(cache, {one.name: one.key for one in found})
        for one in found:
            needed[one.name] |= {
                "cache": cache.address,
                "signature": one.signature,
                "known_bytes": known_bytes(cache, one.key),
            }
    peak = 0
    if needed:
        peak = _run_worker(needed, programs_dir, num_parallel or _default_parallel(), progress)
    return Programs(
        made=tuple(needed),
        reused=tuple(name for name in told if name not in needed),
        peak_rss_bytes=peak,
        damage=() if cache is None else cache.damage,
    )


def _take(job: Mapping[str, Any], folder: Path, cache: Cache) -> Missing | None:
    if job["signature"]:  # relinked: the program is there, its executable is to be made
        message = f"program {job['name']} is relinked without the store"
        raise AssertionError(message)
    return take_program_files(job, folder, cache)


def _bucket(job: ProgramJob) -> int:
    return 0 if job.spec is None else job.spec.bucket


def _default_parallel() -> int:
    return min(len(os.sched_getaffinity(0)), 4)


def _run_worker(
    jobs: Mapping[str, Mapping[str, Any]], programs_dir: Path, num_parallel: int, progress: Progress
) -> int:
    """Run the worker on ``jobs``; the largest memory of its children, in bytes."""
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
