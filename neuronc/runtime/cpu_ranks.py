"""The ranks of an artifact as devices of this process, through XLA:CPU."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.artifact.manifest import PROGRAMS_DIR, WEIGHTS_DIR, Manifest, ProgramEntry
from neuronc.lower.program_files import EXECUTABLE
from neuronc.runtime.weights import empty_caches, load_weights, rank_numbers
from neuronc.targets.cpu import open_cpu, set_device_count
from neuronc.targets.cpu_merge import merge_inputs
from neuronc.targets.host import require_host
from neuronc.trace.program_spec import MergedWeights, Phase, ProgramSignature

Array = np.ndarray[Any, Any]
Program = Callable[..., Any]


class CpuRanks:
    """Runs executables; see `Ranks`."""

    def __init__(
        self,
        programs: Mapping[tuple[Phase, int], Program],
        caches: list[Any],
        rank: list[Any],
    ) -> None:
        self._programs, self._caches, self._rank = programs, caches, rank

    def run(
        self, phase: Phase, bucket: int, data: list[Array], *, wanted: Sequence[int] = (0,)
    ) -> list[Array]:
        """The outputs ``wanted`` as arrays of numpy."""
        return [np.asarray(output) for output in self.start(phase, bucket, data, wanted=wanted)]

    def start(
        self, phase: Phase, bucket: int, data: Sequence[Any], *, wanted: Sequence[int]
    ) -> list[Any]:
        """`run` that does not wait: what it gives may be ``data`` of the next run already."""
        outputs = self._programs[phase, bucket](*self._caches, *self._rank, *data)
        self._caches = list(outputs[1 : 1 + len(self._caches)])
        return [outputs[number] for number in wanted]

    def close(self) -> None:
        """Nothing to give back: arrays go with the object."""


def open_cpu_ranks(folder: Path, manifest: Manifest) -> CpuRanks:
    """Open the artifact's executables and weights; machine code is loaded while weights are read.

    Raises:
        ToolchainError: the executables were compiled for another machine or jaxlib.
    """
    require_host(manifest.host)
    set_device_count(manifest.tp)
    with ThreadPoolExecutor(max_workers=2) as pool:
        opened = [
            pool.submit(_open_program, folder, entry, manifest.tp) for entry in manifest.programs
        ]
        weights = _load_weights(folder, manifest)
        programs = {
            (entry.phase, entry.bucket): partial(code.result(), *weights[entry.merged_weights])
            for entry, code in zip(manifest.programs, opened, strict=True)
        }
    first = _signature(manifest.programs[0])  # all take the same caches and rank number
    caches = empty_caches(opened[0].result(), first, tp=manifest.tp)
    rank = [rank_numbers(t, tp=manifest.tp) for t in first.inputs if t.kind == "rank"]
    return CpuRanks(programs, caches, rank)


def _signature(entry: ProgramEntry) -> ProgramSignature:
    return merge_inputs(entry.signature, entry.merged_weights)


def _open_program(folder: Path, entry: ProgramEntry, tp: int) -> Program:
    payload = (folder / PROGRAMS_DIR / entry.name / EXECUTABLE).read_bytes()
    return open_cpu(payload, _signature(entry), tp=tp)


def _load_weights(folder: Path, manifest: Manifest) -> dict[MergedWeights, list[Any]]:
    """The weights as the programs take them: once, unless programs differ in what they merge."""
    signatures = {entry.merged_weights: entry.signature for entry in manifest.programs}
    return {
        merged: load_weights(folder / WEIGHTS_DIR, signature, merged, tp=manifest.tp)
        for merged, signature in signatures.items()
    }
