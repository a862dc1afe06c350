"""The driver's side: one Ray task per job, tried again where a node is lost.

Ray: docs.ray.io, "Tasks" (``max_retries`` counts lost workers and nodes, not errors of ours, which
are values here) and "Resources" (``memory`` is what a task reserves when it is scheduled).
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuronc.cache.cache import Cache
from neuronc.errors import CompilerError, PlanError, ToolchainError, UsageError, error_of
from neuronc.progress import Progress

Result = dict[str, Any]
"""``node``, ``peak_rss_bytes``, and ``error`` (exit code, message, hint) or None."""

RETRIES = 3
"""How often a job begins anew because its node or process was lost."""

_POLL_S = 0.5
_CONNECT_S = 5.0
_START = "start one with ray start --head, or pass --address HOST:PORT"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteJob:
    """One task.

    Attributes:
        name: Of the program.
        function: Called on a node; see `neuronc.cluster.on_node`.
        arguments: For it.
        memory_bytes: That it reserves.
    """

    name: str
    function: Callable[..., Result]
    arguments: tuple[Any, ...]
    memory_bytes: int


def run_on_ray(jobs: Sequence[RemoteJob], address: str, *, title: str, progress: Progress) -> int:
    """Run ``jobs`` on the cluster at ``address``, and wait for all.

    Returns:
        Largest resident memory of a worker, in bytes.

    Raises:
        ToolchainError: ray is not installed, or no cluster answers.
        PlanError: no node has a CPU for a task.
        NeuroncError: the first failure of a job; the others are cancelled.
    """
    ray = _connect(address)
    try:
        largest = _largest_node_bytes(ray)
        with progress.stage(title, total=len(jobs), unit="programs") as stage:
            waiting = {_submit(ray, job, largest): job for job in jobs}
            begin_s, peak = time.monotonic(), 0
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=_POLL_S)
                names = ", ".join(job.name for job in waiting.values())
                stage.advance(0, note=f"{names}: {time.monotonic() - begin_s:.0f} s")
                for reference in done:
                    job = waiting.pop(reference)
                    result = _result_of(ray, reference, job)
                    peak = max(peak, result["peak_rss_bytes"])
                    stage.advance(1, note=f"{job.name}: done on {result['node']}")
    finally:
        ray.shutdown()  # what still runs for us is cancelled with the driver
    return peak


def require_shared(cache: Cache | None) -> Cache:
    """The store; a cluster's nodes hand programs over through it.

    Raises:
        UsageError: there is none.
    """
    if cache is None:
        message = "--executor ray hands programs over through the cache, and there is none"
        raise UsageError(message, hint="pass --cache with a URL or a folder that all nodes share")
    return cache


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        message = "--executor ray needs Ray, which is not installed"
        raise ToolchainError(message, hint="pip install 'neuronc[ray]'") from error
    _require_listener(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        said = str(error).splitlines()[0][:200]
        message = f"no Ray cluster answers at {address!r}: {said}"
        raise ToolchainError(message, hint=_START) from error
    return ray


def _require_listener(address: str) -> None:
    """Ray waits minutes for a cluster that is not there; whether anybody listens is known at once."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return  # auto, or a ray:// address
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        message = f"no Ray cluster answers at {address!r}: {error}"
        raise ToolchainError(message, hint=_START) from error


def _largest_node_bytes(ray: Any) -> int:
    """Memory of the largest node that has a CPU: no task may ask for more, it would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_cpu = [node for node in nodes if node.get("CPU", 0) >= 1]
    if not with_cpu:
        message = f"none of the cluster's {len(nodes)} nodes has a CPU for a task"
        raise PlanError(message, hint="start a node with ray start --num-cpus 1 or more")
    return int(max(node.get("memory", 0) for node in with_cpu))


def _submit(ray: Any, job: RemoteJob, largest_bytes: int) -> Any:
    function = ray.remote(job.function)
    memory = min(job.memory_bytes, largest_bytes)
    options = {"num_cpus": 1, "memory": memory, "max_retries": RETRIES, "name": job.name}
    return function.options(**options).remote(*job.arguments)


def _result_of(ray: Any, reference: Any, job: RemoteJob) -> Mapping[str, Any]:
    try:
        result: Result = ray.get(reference)
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[0][:300]
        message = f"program {job.name}: the cluster lost it {RETRIES + 1} times: {said}"
        raise CompilerError(message, hint="look at the nodes' memory and logs") from error
    if result["error"] is not None:
        exit_code, message, hint = result["error"]
        raise error_of(exit_code, f"{message} (on node {result['node']})", hint=hint)
    return result
