"""All programs of a build to NEFFs: one compile per distinct HLO, a few at a time, none twice."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from threading import Event

from neuronc.cache.cache import Cache
from neuronc.cache.explain import frozen_error
from neuronc.cache.program_keys import neff_key
from neuronc.lower.admission import Admission, available_memory_bytes
from neuronc.lower.memory_gate import MemoryGate
from neuronc.lower.program_files import NEURON_HLO
from neuronc.progress import SILENT, Progress, Stage
from neuronc.targets.neuron.compiler.command import CompilerArgs
from neuronc.targets.neuron.compiler.one_neff import (
    Compile,
    Context,
    NeffJob,
    compile_one,
    take_neff,
)
from neuronc.targets.neuron.compiler.toolchain import Compiler

DEFAULT_TIMEOUT_S = 4 * 3600.0
_GUESS_BYTES = 8 * 2**30
"""Memory of a compile that nothing is known of. AWS publishes no figure; this is ours."""


Elsewhere = Callable[[Sequence[Compile], Context], None]
"""Compiles, and puts what comes out beside the programs."""


def compile_neffs(
    jobs: Sequence[NeffJob],
    programs_dir: Path,
    compiler: Compiler,
    flags: CompilerArgs,
    *,
    num_parallel: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    cache: Cache | None = None,
    frozen: bool = False,
    elsewhere: Elsewhere | None = None,
    progress: Progress = SILENT,
) -> None:
    """Put ``program.neff``, ``neuronx-cc.json`` and ``neuronx-cc.log`` beside every job's HLO.

    The smallest come first, at most ``num_parallel`` (as many as cores) at once, and fewer where
    memory is short: see `MemoryGate`. A finished one is kept in ``cache`` at once, so it survives
    another's failure. ``elsewhere`` compiles, in place of this machine,
    what ``cache`` lacks.

    Raises:
        FrozenError: ``frozen``, and ``cache`` lacks one.
        CompilerError: the compiler failed, or what it wrote is not the NEFF of this program.
        HostMemoryError: it was killed for lack of memory.
        DeadlineError: it took longer than ``timeout_s``.
    """
    most = num_parallel or len(os.sched_getaffinity(0))
    context = Context(
        programs_dir=programs_dir,
        compiler=compiler,
        flags=flags,
        timeout_s=timeout_s,
        cache=cache,
        gate=MemoryGate(
            Admission(
                num_parallel=most, available_bytes=available_memory_bytes, guess_bytes=_GUESS_BYTES
            )
        ),
        stop=Event(),
    )
    compiles = _distinct(jobs, context)
    title = f"compiling NEFFs with neuronx-cc {compiler.version}"
    with progress.stage(title, total=len(compiles), unit="programs") as stage:
        needed = [one for one in compiles if not take_neff(one, context, stage)]
        if frozen and needed and cache is not None:
            raise frozen_error(cache, {one.jobs[0].name: one.key for one in needed})
        if elsewhere is None:
            _compile_all(needed, context, most, stage)
    if needed and elsewhere is not None:
        elsewhere(needed, context)


def _compile_all(compiles: Sequence[Compile], context: Context, most: int, stage: Stage) -> None:
    with ThreadPoolExecutor(max_workers=max(1, min(most, len(compiles)))) as pool:
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


def _distinct(jobs: Sequence[NeffJob], context: Context) -> list[Compile]:
    """One compile for all programs that are the same but for their names."""
    found: dict[str, Compile] = {}
    for job in sorted(jobs, key=lambda job: job.bucket):
        args = context.flags.of(job.phase)
        hlo = (context.programs_dir / job.name / NEURON_HLO).read_bytes()
        key = neff_key(hlo, args=args, compiler=context.compiler.version)
        same = found.get(key.digest)
        if same is None:
            found[key.digest] = Compile(key=key, args=args, jobs=(job,))
        else:
            found[key.digest] = replace(same, jobs=(*same.jobs, job))
    return list(found.values())


def _compile_or_stop(one: Compile, context: Context, stage: Stage) -> None:
    """`compile_one`; after a failure no other begins, however fast this thread is given the next."""
    if context.stop.is_set():
        raise CancelledError
    try:
        compile_one(one, context, stage)
    except BaseException:
        context.stop.set()
        raise
