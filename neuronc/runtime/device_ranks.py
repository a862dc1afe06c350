"""All ranks of an artifact on NeuronCores: a thread per core, or a process per core.

nrtpy documents neither; AWS's open code shows both (nkipy: ``spike`` runs one process with a thread
per core, its Qwen example a process per rank under torchrun). Threads are the default: one process
holds the engine and all ranks, nothing has to meet over a port, and calls release the GIL.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from neuronc.artifact.manifest import Manifest, read_manifest
from neuronc.errors import CompilerError, NeuroncError, ToolchainError
from neuronc.runtime.device_rank import (
    CORES_ENV,
    DeviceRank,
    import_nrtpy,
    nrt_errors,
    require_lnc,
    visible_cores,
)
from neuronc.trace.program_spec import Phase

Array = np.ndarray[Any, Any]
Result = TypeVar("Result")
_STOP_S, _SHORT_STOP_S = 10.0, 0.5


class DeviceThreads:
    """One process that sees ``tp`` cores, and a thread per core; see `Ranks`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        nrtpy = import_nrtpy()
        require_lnc(manifest.lnc)
        with nrt_errors("configuring the runtime"):
            nrtpy.configure(visible_cores=visible_cores(manifest.tp))
        # Loaded one after another in one thread, as AWS's own runner does.
        self._ranks = [
            DeviceRank(folder, manifest, rank=rank, core=rank) for rank in range(manifest.tp)
        ]
        self._pool = ThreadPoolExecutor(max_workers=manifest.tp, thread_name_prefix="rank")
        self._nrtpy = nrtpy

    def run(
        self, phase: Phase, bucket: int, data: list[Array], *, wanted: Sequence[int] = (0,)
    ) -> list[Array]:
        """The outputs ``wanted`` of rank 0, when every rank is done."""
        return self._all(lambda rank: rank.run(phase, bucket, data, wanted=wanted))[0]

    def benchmark(
        self, phase: Phase, bucket: int, data: list[Array], *, iterations: int
    ) -> list[Any]:
        """Nrtpy's ``BenchmarkResult`` of every rank; the caches hold nothing useful afterwards."""
        return self._all(lambda rank: rank.benchmark(phase, bucket, data, iterations=iterations))

    def close(self) -> None:
        """Close the runtime of this process."""
        self._pool.shutdown(wait=False)
        self._ranks.clear()
        with nrt_errors("closing the runtime"):
            self._nrtpy.reset()

    def _all(self, work: Callable[[DeviceRank], Result]) -> list[Result]:
        futures = [self._pool.submit(work, rank) for rank in self._ranks]
        # Ranks wait for each other on the device: one that fails leaves the others hanging there.
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        return [future.result() for future in futures]


class DeviceProcesses:
    """A process per rank, each with one core of its own; see `Ranks`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        import_nrtpy()
        context = multiprocessing.get_context("spawn")
        root, cores = f"127.0.0.1:{_free_port()}", visible_cores(manifest.tp)
        self._pipes: list[Connection] = []
        self._workers = []
        self._asked = 0
        for rank in range(manifest.tp):
            ours, theirs = context.Pipe()
            worker = context.Process(
                target=_serve, args=(theirs, str(folder), rank, cores[rank], root), daemon=True
            )
            worker.start()
            theirs.close()
            self._pipes.append(ours)
            self._workers.append(worker)
        try:
            self._answers()  # every rank says when it has loaded
        except BaseException:
            self.close()
            raise

    def run(
        self, phase: Phase, bucket: int, data: list[Array], *, wanted: Sequence[int] = (0,)
    ) -> list[Array]:
        """The outputs ``wanted`` of rank 0, when every rank is done."""
        answer: list[Array] = self._ask("run", phase, bucket, data, wanted)[0]
        return answer

    def benchmark(
        self, phase: Phase, bucket: int, data: list[Array], *, iterations: int
    ) -> list[Any]:
        """Nrtpy's ``BenchmarkResult`` of every rank; the caches hold nothing useful afterwards."""
        return self._ask("benchmark", phase, bucket, data, iterations)

    def close(self) -> None:
        """End the processes: at once where one died, since the others wait for it on the device."""
        is_whole = all(worker.is_alive() for worker in self._workers)
        for pipe in self._pipes:
            pipe.close()  # a worker that finds its pipe closed goes
        for worker in self._workers:
            worker.join(_STOP_S if is_whole else _SHORT_STOP_S)
            if worker.is_alive():
                worker.kill()
                worker.join()

    def _ask(self, *question: Any) -> list[Any]:
        self._asked += 1
        for rank, pipe in enumerate(self._pipes):
            try:
                pipe.send((self._asked, *question))
            except OSError as error:
                raise _death(rank) from error
        return self._answers()

    def _answers(self) -> list[Any]:
        """Every rank's answer to the newest question; those to older ones are dropped.

        There are some after an error: the other ranks' answers to the same question were not waited
        for.
        """
        waiting = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        answers: dict[int, Any] = {}
        while waiting:
            for pipe in connection.wait(list(waiting)):
                rank = waiting[cast("Connection", pipe)]
                number, answer = _receive(cast("Connection", pipe), rank)
                if number < self._asked:
                    continue
                if isinstance(answer, NeuroncError):
                    raise answer
                del waiting[cast("Connection", pipe)]
                answers[rank] = answer
        return [answers[rank] for rank in sorted(answers)]


def _receive(pipe: Connection, rank: int) -> tuple[int, Any]:
    """A question's number and the rank's answer to it."""
    try:
        number, answer = pipe.recv()
    except (EOFError, ConnectionError) as error:
        raise _death(rank) from error
    return number, answer


def _death(rank: int) -> CompilerError:
    message = f"the process of rank {rank} died"
    hint = "look at what it printed to stderr; neuron-top shows the cores"
    return CompilerError(message, hint=hint)


def _serve(pipe: Connection, folder: str, rank: int, core: int, root: str) -> None:
    """A rank's process: load, then answer until the pipe closes."""
    os.environ[CORES_ENV] = str(core)
    os.environ["NEURON_RT_ROOT_COMM_ID"] = root
    try:
        manifest = read_manifest(Path(folder))
        require_lnc(manifest.lnc)
        device = DeviceRank(Path(folder), manifest, rank=rank, core=0)
    except NeuroncError as error:
        pipe.send((0, error))
        return
    pipe.send((0, None))
    while True:
        try:
            number, what, phase, bucket, data, more = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Any
        try:
            if what == "run":
                answer = device.run(phase, bucket, data, wanted=more)
            else:
                answer = device.benchmark(phase, bucket, data, iterations=more)
        except NeuroncError as error:
            answer = error
        with suppress(OSError):  # nobody is left to hear it
            pipe.send((number, answer))


def _free_port() -> int:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    except OSError as error:
        message = f"no local port for the ranks to meet at: {error}"
        raise ToolchainError(message, hint="run without --rank-processes") from error
