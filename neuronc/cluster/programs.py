"""Programs that are made on a cluster, and come back through the store."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronc.cache.cache import Cache
from neuronc.cache.explain import explain
from neuronc.cache.program_keys import lowered_key
from neuronc.cluster.on_node import make_neff_here, make_program_here
from neuronc.cluster.ray_jobs import RemoteJob, require_shared, run_on_ray
from neuronc.errors import ToolchainError
from neuronc.lower.admission import GUESS_BYTES
from neuronc.lower.cached_program import take_program_files
from neuronc.lower.program_files import NEURON_HLO
from neuronc.progress import Progress
from neuronc.targets.neuron.compiler.one_neff import Compile, Context, take_neff
from neuronc.trace.program_spec import signature_to_dict

NEFF_GUESS_BYTES = 8 * 2**30
"""What a neuronx-cc task reserves. AWS publishes no figure; this is ours."""


def make_on_cluster(
    jobs: Mapping[str, Mapping[str, Any]],
    programs_dir: Path,
    *,
    cache: Cache,
    address: str,
    progress: Progress,
) -> int:
    """Make the programs of ``jobs``, JSON by name, on the Ray cluster at ``address``.

    Returns:
        Largest resident memory of a worker, in bytes.

    Raises:
        ToolchainError: the nodes are other machines than this one: executables of theirs would not be
            what a build here makes.
        NeuroncError: see `run_on_ray`.
    """
    tasks = [
        RemoteJob(
            name=name,
            function=make_program_here,
            arguments=(job, cache.address, dict(lowered_key(job).inputs)),
            memory_bytes=job["known_bytes"] or GUESS_BYTES,
        )
        for name, job in jobs.items()
    ]
    title = f"compiling programs on the cluster at {address}"
    peak = run_on_ray(tasks, address, title=title, progress=progress)
    for name, job in jobs.items():
        missing = take_program_files(job, programs_dir / name, cache)
        if missing is not None:
            miss = explain(cache, missing.key)
            message = f"program {name} was made on the cluster and is not in {cache.shown}: {miss}"
            raise ToolchainError(message, hint=_ALIKE)
    return peak


def compile_neffs_on_cluster(
    compiles: Sequence[Compile], context: Context, *, address: str, progress: Progress
) -> None:
    """Compile NEFFs with the neuronx-cc of a cluster's nodes.

    Raises:
        UsageError: there is no store.
        NeuroncError: see `run_on_ray`.
    """
    shared = require_shared(context.cache)
    tasks = [
        RemoteJob(
            name=one.jobs[0].name,
            function=make_neff_here,
            arguments=(_told(one, context), shared.address, context.timeout_s),
            memory_bytes=NEFF_GUESS_BYTES,
        )
        for one in compiles
    ]
    title = f"compiling NEFFs on the cluster at {address}"
    run_on_ray(tasks, address, title=title, progress=progress)
    with progress.stage(
        "taking NEFFs from the cache", total=len(compiles), unit="programs"
    ) as stage:
        for one in compiles:
            if not take_neff(one, context, stage):
                message = f"{one.jobs[0].name} was compiled on the cluster"
                message += f" and is not in {shared.shown}"
                raise ToolchainError(message, hint=_ALIKE)


def _told(one: Compile, context: Context) -> dict[str, Any]:
    job = one.jobs[0]
    return {
        "name": job.name,
        "phase": job.phase,
        "bucket": job.bucket,
        "signature": signature_to_dict(job.signature),
        "hlo": (context.programs_dir / job.name / NEURON_HLO).read_bytes(),
        "args": list(one.args),
        "compiler": context.compiler.version,
        "lnc": context.flags.lnc,
        "env_args": list(context.flags.env_args),
    }


_ALIKE = "use a cache that all nodes share, nodes with this machine's CPU, and the same versions"
