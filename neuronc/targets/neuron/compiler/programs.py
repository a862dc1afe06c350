"""All programs of a build to NEFFs: one compile per distinct HLO, a few at a time, none twice."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from neuronc.checkpoint.digest import sha256_file
from neuronc.errors import InputError
from neuronc.lower.program_files import (
    COMPILED,
    COMPILER_LOG,
    COMPILER_RECORD,
    NEFF,
    NEURON_HLO,
)
from neuronc.progress import SILENT, Progress, Stage
from neuronc.targets.neuron.compiler import store
from neuronc.targets.neuron.compiler.command import (
    CompilerArgs,
    command_line,
    compiler_environment,
)
from neuronc.targets.neuron.compiler.failure import failure, is_transient, read_log
from neuronc.targets.neuron.compiler.process import CompilerRun, run_compiler
from neuronc.targets.neuron.compiler.toolchain import Compiler
from neuronc.targets.neuron.neff.check import check_neff
from neuronc.trace.program_spec import Phase, ProgramSignature

DEFAULT_TIMEOUT_S = 4 * 3600.0
_MEMORY_PER_COMPILE_BYTES = 8 * 2**30
"""What one compile is allowed for when jobs are counted. AWS publishes no figure; this is ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeffJob:
    """A legalised program that lies in ``programs/NAME/`` and is to be a NEFF there.

    Attributes:
        name: Of the program.
        phase: Decides the compiler's flags.
        bucket: Small ones are compiled first.
        signature: What the NEFF has to take and give.
    """

    name: str
    phase: Phase
    bucket: int
    signature: ProgramSignature


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compile:
    """One distinct compile, and the programs that are its result."""

    key: str
    args: tuple[str, ...]
    jobs: tuple[NeffJob, ...]


class _Context:
    """What all compiles of a build share."""

    def __init__(
        self, programs_dir: Path, compiler: Compiler, flags: CompilerArgs, timeout_s: float
    ) -> None:
        self.programs_dir, self.compiler = programs_dir, compiler
        self.flags, self.timeout_s = flags, timeout_s
        self.stop = Event()


def compile_neffs(
    jobs: Sequence[NeffJob],
    programs_dir: Path,
    compiler: Compiler,
    flags: CompilerArgs,
    *,
    num_parallel: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Progress = SILENT,
) -> None:
    """Put ``program.neff``, ``neuronx-cc.json`` and ``neuronx-cc.log`` beside every job's HLO.

    A finished program is kept in the user's cache at once, so it survives another's failure.

    Raises:
        CompilerError: the compiler failed, or what it wrote is not the NEFF of this program.
        HostMemoryError: it was killed for lack of memory.
        DeadlineError: it took longer than ``timeout_s``.
    """
    context = _Context(programs_dir, compiler, flags, timeout_s)
    compiles = _distinct(jobs, programs_dir, compiler, flags)
    title = f"compiling NEFFs with neuronx-cc {compiler.version}"
    if caveat := jobs_caveat(min(num_parallel or 1, len(compiles))):
        title += f": {caveat}"
    with (
        progress.stage(title, total=len(compiles), unit="programs") as stage,
        ThreadPoolExecutor(max_workers=num_parallel or default_jobs(len(compiles))) as pool,
    ):
        futures = [pool.submit(_compile_or_stop, one, context, stage) for one in compiles]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(f.done() and f.exception() is None for f in futures):
                context.stop.set()
                for future in futures:
                    future.cancel()
        errors = [error for future in done if (error := future.exception()) is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, CancelledError)):
            raise error


def default_jobs(num_compiles: int) -> int:
    """How many compiles to run at once here: as many as cores and free memory allow."""
    import psutil

    by_memory = psutil.virtual_memory().available // _MEMORY_PER_COMPILE_BYTES
    return max(1, min(num_compiles, len(os.sched_getaffinity(0)), by_memory))


def jobs_caveat(num_parallel: int | None) -> str:
    """What to say of a number of compiles at once that somebody asked for; empty if it fits."""
    import psutil

    needed = (num_parallel or 1) * _MEMORY_PER_COMPILE_BYTES
    free = psutil.virtual_memory().available
    if num_parallel in (None, 1) or needed <= free:
        return ""
    return (
        f"--jobs {num_parallel} may need {needed / 2**30:.0f} GiB (our guess of 8 GiB each);"
        f" {free / 2**30:.0f} GiB are free"
    )


def _distinct(
    jobs: Sequence[NeffJob], programs_dir: Path, compiler: Compiler, flags: CompilerArgs
) -> list[_Compile]:
    grouped: dict[str, list[NeffJob]] = {}
    args_of: dict[str, tuple[str, ...]] = {}
    for job in sorted(jobs, key=lambda job: job.bucket):
        args = flags.of(job.phase)
        hlo = (programs_dir / job.name / NEURON_HLO).read_bytes()
        key = store.compile_key(hlo, args, compiler.version)
        args_of[key] = args
        grouped.setdefault(key, []).append(job)
    return [_Compile(key=k, args=args_of[k], jobs=tuple(found)) for k, found in grouped.items()]


def _compile_or_stop(one: _Compile, context: _Context, stage: Stage) -> None:
    """`_compile`; after a failure no other begins, however fast this thread is given the next."""
    if context.stop.is_set():
        raise CancelledError
    try:
        _compile(one, context, stage)
    except BaseException:
        context.stop.set()
        raise


def _compile(one: _Compile, context: _Context, stage: Stage) -> None:
    first = context.programs_dir / one.jobs[0].name
    reused = store.take(one.key, first) and _is_the_program(first / NEFF, one.jobs[0], context)
    if not reused:
        with tempfile.TemporaryDirectory(
            prefix=".compiling-", dir=first, ignore_cleanup_errors=True
        ) as scratch:
            _run(one, first, Path(scratch) / "work", context, stage)
        store.put(one.key, first)
    for other in one.jobs[1:]:
        for name in COMPILED:
            shutil.copyfile(first / name, context.programs_dir / other.name / name)
    for job in one.jobs:
        stage.advance(1, note=f"{job.name}: {'compiled before' if reused else 'done'}")


def _is_the_program(neff: Path, job: NeffJob, context: _Context) -> bool:
    """Whether a NEFF from the store is what ``job`` needs; the names in a manifest are not its key."""
    try:
        check_neff(neff, job.signature, lnc=context.flags.lnc)
    except InputError:
        return False
    return True


def _run(one: _Compile, first: Path, work: Path, context: _Context, stage: Stage) -> None:
    """Compile in ``work``, check the NEFF and move what is kept to ``first``."""
    job = one.jobs[0]
    executable = str(context.compiler.path)
    argv = command_line(job.name, one.args, executable=executable)
    run, attempts = _attempt(job, argv, first, work, context, stage)
    if run.exit_code is None and context.stop.is_set():
        raise CancelledError
    neff = work / f"{job.name}.neff"
    failed = partial(failure, job.name, run, work, argv, key=one.key, timeout_s=context.timeout_s)
    if run.exit_code != 0:
        raise failed()
    if neff.is_symlink() or not neff.is_file():
        raise failed(bad_output=f"{neff.name} is not a file")
    try:
        checked = check_neff(neff, job.signature, lnc=context.flags.lnc)
    except InputError as error:
        raise failed(bad_output=error.message) from error
    record = {
        "command": argv,
        "compiler_version": context.compiler.version,
        "stand_in": context.compiler.is_stand_in,
        "exit_code": run.exit_code,
        "attempts": attempts,
        "wall_s": round(run.wall_s, 3),
        "peak_rss_bytes": run.peak_rss_bytes,
        "neuron_cc_flags": list(context.flags.env_args),
        "neff_sha256": sha256_file(neff),
        "neff_checked": list(checked),
    }
    neff.replace(first / NEFF)
    (first / COMPILER_LOG).write_text(read_log(work), encoding="utf-8")
    (first / COMPILER_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _attempt(
    job: NeffJob, argv: list[str], first: Path, work: Path, context: _Context, stage: Stage
) -> tuple[CompilerRun, int]:
    """Run the compiler, once more where it failed in a way known to pass."""

    def beat(elapsed_s: float, rss_bytes: int) -> None:
        note = f"{job.name}: {elapsed_s:.0f} s, {rss_bytes / 2**30:.2f} GiB"
        stage.advance(0, note=note)

    for attempts in (1, 2):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        shutil.copyfile(first / NEURON_HLO, work / f"{job.name}.hlo.pb")
        run = run_compiler(
            argv,
            work,
            env=compiler_environment(os.environ),
            timeout_s=context.timeout_s,
            stop=context.stop,
            on_beat=beat,
        )
        if attempts == 2 or not is_transient(run, read_log(work)):
            break
    return run, attempts
