"""One run of neuronx-cc for one distinct program: from the store, or made, checked and kept."""

import json
import os
import shutil
import tempfile
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event

import neuronc
from neuronc.cache.cache import Cache, user_folder
from neuronc.cache.explain import known_bytes
from neuronc.cache.key import Key
from neuronc.checkpoint.digest import sha256_file
from neuronc.errors import InputError
from neuronc.lower.memory_gate import MemoryGate, Turn
from neuronc.lower.program_files import (
    COMPILED,
    COMPILER_LOG,
    COMPILER_RECORD,
    NEFF,
    NEURON_HLO,
)
from neuronc.progress import Stage
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
class Compile:
    """One distinct compile, and the programs that are its result."""

    key: Key
    args: tuple[str, ...]
    jobs: tuple[NeffJob, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What all compiles of a build share."""

    programs_dir: Path
    compiler: Compiler
    flags: CompilerArgs
    timeout_s: float
    cache: Cache | None
    gate: MemoryGate
    stop: Event


def take_neff(one: Compile, context: Context, stage: Stage) -> bool:
    """Put the NEFF of ``one`` beside its programs if the store has it; whether it has."""
    first = context.programs_dir / one.jobs[0].name
    if context.cache is None or context.cache.take(one.key, first) is None:
        return False
    try:  # the store's digests say that nobody changed it, not that it is this program's
        check_neff(first / NEFF, one.jobs[0].signature, lnc=context.flags.lnc)
    except InputError:
        for name in COMPILED:
            (first / name).unlink()
        return False
    _share(one, context, stage, "compiled before")
    return True


def compile_one(one: Compile, context: Context, stage: Stage) -> None:
    """Run neuronx-cc and keep what it made; who comes second to a key waits and takes it.

    Raises:
        CancelledError: another compile failed, or everything is to end.
        NeuroncError: see `neuronc.targets.neuron.compiler.programs.compile_neffs`.
    """
    if context.cache is None:
        return _make(one, context, stage)
    name = one.jobs[0].name
    with context.cache.lock(one.key, lambda note: stage.advance(0, f"{name}: {note}")):
        if not take_neff(one, context, stage):
            _make(one, context, stage)
    return None


def _share(one: Compile, context: Context, stage: Stage, how: str) -> None:
    first = context.programs_dir / one.jobs[0].name
    for other in one.jobs[1:]:
        for name in COMPILED:
            shutil.copyfile(first / name, context.programs_dir / other.name / name)
    stage.advance(1, note=f"{', '.join(job.name for job in one.jobs)}: {how}")


def _make(one: Compile, context: Context, stage: Stage) -> None:
    first = context.programs_dir / one.jobs[0].name
    known = None if context.cache is None else known_bytes(context.cache, one.key)
    is_done = is_alone = False
    while not is_done:
        with (
            context.gate.turn(
                known_bytes=known,
                is_alone=is_alone,
                stop=context.stop,
                tell=lambda: stage.advance(0, f"{first.name}: waits for memory"),
            ) as turn,
            tempfile.TemporaryDirectory(
                prefix=".compiling-", dir=first, ignore_cleanup_errors=True
            ) as scratch,
        ):
            if turn is None:
                raise CancelledError
            is_done = _run(one, turn, Path(scratch) / "work", context, stage)
        if not is_done:
            is_alone = True
            note = f"memory is short: {first.name} gave way, and is compiled alone later"
            stage.advance(0, note)
    if context.cache is not None:
        record = json.loads((first / COMPILER_RECORD).read_text(encoding="utf-8"))
        facts = {
            "what": ", ".join(job.name for job in one.jobs),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": record["wall_s"],
            "peak_rss_bytes": record["peak_rss_bytes"],
            "neuronc": neuronc.__version__,
        }
        context.cache.put(one.key, first, COMPILED, facts)
    _share(one, context, stage, "done")


def _run(one: Compile, turn: Turn, work: Path, context: Context, stage: Stage) -> bool:
    """Compile in ``work``, check the NEFF and move what is kept; False if it gave way."""
    job = one.jobs[0]
    first = context.programs_dir / job.name
    executable = str(context.compiler.path)
    argv = command_line(job.name, one.args, executable=executable)
    run, attempts = _attempt(job, argv, turn, work, context, stage)
    if run.exit_code is None and context.stop.is_set():
        raise CancelledError
    if run.exit_code is None and turn.gives_way.is_set():
        return False
    neff = work / f"{job.name}.neff"
    root = user_folder() if context.cache is None else context.cache.local.root
    kept = root / "failed" / one.key.digest[:16]
    failed = partial(failure, job.name, run, work, argv, keep=kept, timeout_s=context.timeout_s)
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
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class _EitherOf:
    """Set when one of two events is."""

    one: Event
    other: Event

    def is_set(self) -> bool:
        return self.one.is_set() or self.other.is_set()


def _attempt(
    job: NeffJob, argv: list[str], turn: Turn, work: Path, context: Context, stage: Stage
) -> tuple[CompilerRun, int]:
    """Run the compiler, once more where it failed in a way known to pass."""

    def beat(elapsed_s: float, rss_bytes: int) -> None:
        context.gate.observe(turn, rss_bytes)
        note = f"{job.name}: {elapsed_s:.0f} s, {rss_bytes / 2**30:.2f} GiB"
        stage.advance(0, note=note)

    for attempts in (1, 2):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        source = context.programs_dir / job.name / NEURON_HLO
        shutil.copyfile(source, work / f"{job.name}.hlo.pb")
        run = run_compiler(
            argv,
            work,
            env=compiler_environment(os.environ),
            timeout_s=context.timeout_s,
            stop=_EitherOf(one=context.stop, other=turn.gives_way),
            on_beat=beat,
        )
        if attempts == 2 or not is_transient(run, read_log(work)):
            break
    return run, attempts
