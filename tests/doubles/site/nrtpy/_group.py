"""Ranks that run one program together: all of them have to call before any gets its outputs.

Ranks that are threads of one process meet in memory. Ranks that are processes of their own meet at
``NEURON_RT_ROOT_COMM_ID``, where rank 0 listens.
"""

import hashlib
import os
import threading
import time
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np

from nrtpy._runtime import get_nrtpy_singleton, status

Array = np.ndarray[Any, Any]
_WAIT_S = 120.0
_KEY = b"nrtpy double"


class _Program:
    """Compiles at first use; memory comes and goes as flat bytes."""

    def __init__(self, hlo: bytes, inputs: Any, outputs: Any, world_size: int) -> None:
        import jax

        from neuronc.dtypes import DTYPES, numpy_dtype
        from tests.doubles.xla_ranks import RanksProgram, specs

        if not jax._src.xla_bridge.backends_are_initialized():
            jax.config.update("jax_num_cpu_devices", max(4, world_size))
        self.inputs, self.outputs = specs(inputs), specs(outputs)
        self.dtypes = [numpy_dtype(DTYPES[t.dtype]) for t in self.inputs]
        self.program = RanksProgram(hlo, self.inputs, self.outputs, world_size)

    def run(self, by_rank: list[list[Array]]) -> list[list[Array]]:
        shaped = [
            [
                m.view(d).reshape(t.shape)
                for m, d, t in zip(rank, self.dtypes, self.inputs, strict=True)
            ]
            for rank in by_rank
        ]
        return self.program.run(shaped)


class _Threads:
    def __init__(self, program: _Program, world_size: int) -> None:
        self.program, self.world_size = program, world_size
        self.condition = threading.Condition()
        self.waiting: dict[int, list[Array]] = {}
        self.answers: dict[int, list[Array]] = {}
        self.closed = False

    def close(self) -> None:
        with self.condition:
            self.closed = True
            self.condition.notify_all()

    def _is_over(self, rank: int) -> bool:
        return self.closed or rank in self.answers

    def execute(self, rank: int, arrays: list[Array]) -> list[Array]:
        with self.condition:
            self.waiting[rank] = arrays
            if len(self.waiting) == self.world_size:
                given = [self.waiting[r] for r in range(self.world_size)]
                self.answers = dict(enumerate(self.program.run(given)))
                self.waiting.clear()
                self.condition.notify_all()
            elif not self.condition.wait_for(lambda: self._is_over(rank), timeout=_WAIT_S):
                raise status(5, f"rank {rank} waited for the others")
            if rank not in self.answers:
                raise status(14, f"runtime closed while rank {rank} waited for the others")
            return self.answers.pop(rank)


class _Root:
    """Rank 0 of processes: runs what all bring."""

    def __init__(self, program: _Program, peers: dict[int, Connection]) -> None:
        self.program, self.peers = program, peers

    def execute(self, rank: int, arrays: list[Array]) -> list[Array]:
        given = [arrays, *(self.peers[r].recv() for r in sorted(self.peers))]
        answers = self.program.run(given)
        for peer, connection in self.peers.items():
            connection.send(answers[peer])
        return answers[0]


class _Peer:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, rank: int, arrays: list[Array]) -> list[Array]:
        self.connection.send([np.asarray(a) for a in arrays])
        answer: list[Array] = self.connection.recv()
        return answer


_early: dict[tuple[bytes, int], Connection] = {}
"""Peers that came for a program that rank 0 has not got to yet."""


def join_group(hlo: bytes, inputs: Any, outputs: Any, rank: int, world_size: int) -> Any:
    runtime = get_nrtpy_singleton()
    digest = hashlib.sha256(hlo).digest()
    root = os.environ.get("NEURON_RT_ROOT_COMM_ID")
    if world_size > 1 and root:
        host, _, port = root.rpartition(":")
        address = (host, int(port))
        if rank > 0:
            return _Peer(_connect(address, rank, digest))
        peers = _accept(address, digest, world_size)
        return _Root(_Program(hlo, inputs, outputs, world_size), peers)
    key = digest, world_size
    if key not in runtime.groups or world_size == 1:
        runtime.groups[key] = _Threads(_Program(hlo, inputs, outputs, world_size), world_size)
    return runtime.groups[key]


def _accept(address: tuple[str, int], digest: bytes, world_size: int) -> dict[int, Connection]:
    with Listener(address, authkey=_KEY) as listener:
        while sum(found == digest for found, _ in _early) < world_size - 1:
            connection = listener.accept()
            peer, wanted = connection.recv()
            _early[wanted, peer] = connection
    return {rank: _early.pop((digest, rank)) for rank in range(1, world_size)}


def _connect(address: tuple[str, int], rank: int, digest: bytes) -> Connection:
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            connection = Client(address, authkey=_KEY)
            break
        except OSError:
            if time.monotonic() > deadline:
                text = f"rank {rank} found no root at {address}"
                raise status(5, text) from None
            time.sleep(0.05)
    connection.send((rank, digest))
    return connection
