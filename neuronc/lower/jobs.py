"""The programs of a build: what the store has, and the rest made here or on a cluster."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.cache.cache import Cache
from neuronc.cache.explain import frozen_error, known_bytes
from neuronc.lower.cached_program import Missing, take_program_files
from neuronc.lower.follow_worker import run_worker
from neuronc.progress import SILENT, Progress
from neuronc.trace.program_spec import ProgramSpec


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


Elsewhere = Callable[[Mapping[str, Mapping[str, Any]], Path], int]
"""Makes jobs, as JSON by name, in ``programs_dir/NAME``; the largest memory of a worker, in bytes."""


def run_jobs(
    jobs: Sequence[ProgramJob],
    programs_dir: Path,
    *,
    cache: Cache | None = None,
    frozen: bool = False,
    num_parallel: int | None = None,
    elsewhere: Elsewhere | None = None,
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
        elsewhere: Makes what the store lacks; None for worker processes of this machine.
        progress: Told of every program that runs.

    Raises:
        FrozenError: ``frozen``, and the store lacks one; says which, and what differs.
        NeuroncError: the first failure; the other workers are stopped.
    """
    told = {job.name: asdict(job) for job in sorted(jobs, key=_bucket)}
    for name in told:
        (programs_dir / name).mkdir(parents=True, exist_ok=True)
    missing = {} if cache is None else _take(told, programs_dir, cache)
    needed = told if cache is None else {name: told[name] for name in missing}
    peak = 0
    if cache is not None and missing:
        if frozen:
            raise frozen_error(cache, {name: one.key for name, one in missing.items()})
        needed = {name: needed[name] | _hints(cache, one) for name, one in missing.items()}
    if needed and elsewhere is not None:
        peak = elsewhere(needed, programs_dir)
    elif needed:
        peak = run_worker(needed, programs_dir, num_parallel or _default_parallel(), progress)
    return Programs(
        made=tuple(needed),
        reused=tuple(name for name in told if name not in needed),
        peak_rss_bytes=peak,
        damage=() if cache is None else cache.damage,
    )


def _take(
    jobs: Mapping[str, Mapping[str, Any]], programs_dir: Path, cache: Cache
) -> dict[str, Missing]:
    """Put into every program's folder what the store has; what it lacks, by program."""
    found = {n: take_program_files(job, programs_dir / n, cache) for n, job in jobs.items()}
    return {name: one for name, one in found.items() if one is not None}


def _hints(cache: Cache, missing: Missing) -> dict[str, Any]:
    """What spares the worker work: the lowered program if there is one, and what it may take."""
    return {
        "cache": cache.address,
        "signature": missing.signature,
        "known_bytes": known_bytes(cache, missing.key),
    }


def _bucket(job: ProgramJob) -> int:
    return 0 if job.spec is None else job.spec.bucket


def _default_parallel() -> int:
    return min(len(os.sched_getaffinity(0)), 4)
