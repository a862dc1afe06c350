"""Time on the device, without the host: nrtpy's own benchmark of every program."""

from typing import Any

import numpy as np

from neuronc.artifact.manifest import ProgramEntry
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.progress import SILENT, Progress
from neuronc.runtime.session import Session

ITERATIONS = 20
_KEPT = ("mean_ms", "min_ms", "max_ms", "std_dev_ms", "iterations")


def measure_device(
    session: Session, *, progress: Progress = SILENT
) -> dict[str, dict[str, float]] | None:
    """Per program, times in ms as the slowest rank's device counted them; None on the CPU.

    To be called when nothing else is wanted of the session: the KV caches are overwritten.
    """
    benchmark = getattr(session.ranks, "benchmark", None)
    if benchmark is None:
        return None
    times = {}
    programs = session.manifest.programs
    with progress.stage("timing the device", total=len(programs), unit="programs") as stage:
        for entry in programs:
            ranks = benchmark(entry.phase, entry.bucket, _data(entry), iterations=ITERATIONS)
            slowest = max(ranks, key=lambda result: float(result.mean_ms))
            times[entry.name] = {key: float(getattr(slowest, key)) for key in _KEPT}
            stage.advance(1, note=entry.name)
    return times


def _data(entry: ProgramEntry) -> list[Any]:
    """Inputs that keep every index in its bounds; a prefill's bucket is full, and texts are."""
    data = []
    for tensor in entry.signature.inputs:
        if tensor.kind == "data":
            value = entry.bucket if tensor.name in ("length", "lengths") else 0
            data.append(np.full(tensor.shape, value, dtype=numpy_dtype(DTYPES[tensor.dtype])))
    return data
