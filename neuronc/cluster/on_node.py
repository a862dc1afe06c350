"""What a node of the cluster does: one job, into the store that the build named."""

import socket
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from neuronc.cache.cache import Cache, open_stores, user_folder
from neuronc.cache.key import Key
from neuronc.cache.program_keys import executable_key, lowered_key, neff_key
from neuronc.cluster.ray_jobs import Result
from neuronc.errors import InputError, NeuroncError, ToolchainError
from neuronc.lower.jobs import ProgramJob, run_jobs
from neuronc.lower.program_files import NEURON_HLO
from neuronc.progress import SILENT
from neuronc.trace.program_spec import ProgramSpec, signature_from_dict

Address = Mapping[str, str | None]
"""Of a store; see `Cache.address`."""


def make_program_here(job: Mapping[str, Any], address: Address, key: Mapping[str, Any]) -> Result:
    """Make the program of ``job`` unless the store has it; it is there afterwards.

    Args:
        job: A ``ProgramJob`` as JSON.
        address: Of the store; see `Cache.address`.
        key: Inputs of the lowered program's key as the build has them: another version of anything
            here would make another program.
    """
    return _told(lambda: _make_program(job, address, Key(kind="lowered", inputs=key)))


def make_neff_here(told: Mapping[str, Any], address: Address, timeout_s: float) -> Result:
    """Compile one NEFF with this node's neuronx-cc unless the store has it; it is there afterwards.

    Args:
        told: ``name``, ``phase``, ``bucket``, ``signature`` (as JSON), ``hlo`` (bytes), ``args``,
            ``compiler`` (version), ``lnc`` and ``env_args``.
        address: Of the store.
        timeout_s: Wall time of the compiler.
    """
    return _told(lambda: _make_neff(told, address, timeout_s))


def _told(make: Any) -> Result:
    result: Result = {"node": socket.gethostname(), "peak_rss_bytes": 0, "error": None}
    try:
        return {**result, "peak_rss_bytes": make()}
    except NeuroncError as error:
        return {**result, "error": [error.exit_code, error.message, error.hint]}


def _make_program(job: Mapping[str, Any], address: Address, asked: Key) -> int:
    if differences := asked.differences(lowered_key(job)):
        name, there, here = differences[0]
        message = (
            f"node {socket.gethostname()} has another {name}: {here!r}; the build has {there!r}"
        )
        raise ToolchainError(message, hint="install the same versions on every node")
    cache = _open(address)
    known = {field.name for field in fields(ProgramJob)}
    spec = ProgramSpec(**job["spec"])
    whole = {k: v for k, v in job.items() if k in known} | {"spec": spec, "signature": None}
    with tempfile.TemporaryDirectory(prefix="neuronc-node-") as scratch:
        made = run_jobs([ProgramJob(**whole)], Path(scratch), cache=cache, num_parallel=1)
        folder = Path(scratch) / job["name"]
        keys = [asked]
        if job["make_executable"]:
            keys.append(executable_key(folder, target=job["target"], tp=job["tp"]))
    _upload(cache, keys)
    return made.peak_rss_bytes


def _make_neff(told: Mapping[str, Any], address: Address, timeout_s: float) -> int:
    from neuronc.targets.neuron.compiler.command import CompilerArgs
    from neuronc.targets.neuron.compiler.one_neff import NeffJob
    from neuronc.targets.neuron.compiler.programs import compile_neffs
    from neuronc.targets.neuron.compiler.toolchain import find_compiler

    cache, compiler = _open(address), find_compiler()
    if compiler.version != told["compiler"]:
        message = f"node {socket.gethostname()} has neuronx-cc {compiler.version}; the build has"
        message += f" {told['compiler']}"
        raise ToolchainError(message, hint="install the same versions on every node")
    job = NeffJob(
        name=told["name"],
        phase=told["phase"],
        bucket=told["bucket"],
        signature=signature_from_dict(told["signature"]),
    )
    flags = CompilerArgs(
        lnc=told["lnc"],
        by_phase={job.phase: tuple(told["args"])},
        env_args=tuple(told["env_args"]),
    )
    with tempfile.TemporaryDirectory(prefix="neuronc-node-") as scratch:
        folder = Path(scratch) / job.name
        folder.mkdir()
        (folder / NEURON_HLO).write_bytes(told["hlo"])
        compile_neffs(
            [job],
            Path(scratch),
            compiler,
            flags,
            num_parallel=1,
            timeout_s=timeout_s,
            cache=cache,
            progress=SILENT,
        )
    key = neff_key(told["hlo"], args=flags.of(job.phase), compiler=compiler.version)
    _upload(cache, [key])
    return 0


def _open(address: Address) -> Cache:
    """The build's store: its folder, which all nodes share; or this node's own before a URL."""
    if address["behind"] is None:
        return open_stores(str(address["folder"]), None)
    return open_stores(str(user_folder()), address["behind"])


def _upload(cache: Cache, keys: list[Key]) -> None:
    """Put entries where the build can read them: behind the URL, if the store has one."""
    for key in keys:
        entry = cache.local.find(key)
        if entry is None:
            message = f"node {socket.gethostname()} cannot write the store {cache.local.root}"
            raise InputError(message, hint="make it writable, or set XDG_CACHE_HOME there")
        if cache.remote is not None:
            cache.remote.write(entry, cache.local.root / entry.place)
