"""An artifact's folder to a benchmark document."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronc.artifact.manifest import WEIGHTS_DIR
from neuronc.bench.device import measure_device
from neuronc.bench.document import fingerprint, make_document
from neuronc.bench.environment import (
    peak_rss_bytes,
    peak_rss_of_children_bytes,
    read_environment,
)
from neuronc.bench.noise import Noise, judge
from neuronc.bench.noise_sample import read_noise
from neuronc.bench.reference import allowed_error, read_known
from neuronc.bench.roofline.cpu_peaks import measure_cpu
from neuronc.bench.roofline.machine import neuron_machine
from neuronc.bench.roofline.program_cost import costs_by_class
from neuronc.bench.roofline.steps import Roofline
from neuronc.bench.run import Bench, Measured
from neuronc.bench.settings import Settings
from neuronc.progress import SILENT, Progress
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.runtime.text import stop_token_ids

RESERVE_S = 5.0
"""Of the time budget: for starting, looking at the machine, its peaks and the report."""


def open_bench(folder: Path, session: Session) -> Bench[Session, Request]:
    """The artifact in ``folder``, opened as ``session``, ready to be measured."""
    stops = stop_token_ids(folder / WEIGHTS_DIR)
    return Bench(
        session=session,
        engine_factory=Engine,
        make_request=Request,
        forbidden_ids=stops,
        stop_ids=stops,
        known=read_known(session.manifest.verification),
        allowed=allowed_error(session.manifest.verification, session.manifest.dtype),
    )


def bench_artifact(
    folder: Path, session: Session, settings: Settings, *, progress: Progress = SILENT
) -> tuple[dict[str, Any], Measured]:
    """Measure the artifact in ``folder``, opened as ``session``; the document, and all samples.

    Raises:
        PlanError: a request does not fit the artifact.
        BenchmarkError: the engine failed or gave other tokens than asked for.
    """
    with watching(settings) as watch:
        left_s = max(1.0, settings.time_budget_s - session.load_s - RESERVE_S)
        bench = open_bench(folder, session)
        measured = bench.measure(replace(settings, time_budget_s=left_s), progress)
    device = measure_device(session, progress=progress)
    return document_of(folder, session, settings, measured, watch, device), measured


@dataclass(slots=True)
class Watch:
    """The machine before and while something was measured; ``noise`` is None if nobody looked."""

    environment: dict[str, Any]
    noise: Noise | None = None


@contextmanager
def watching(settings: Settings) -> Iterator[Watch]:
    """Look at the machine before the block and after it."""
    watch = Watch(environment=read_environment())
    before = None if settings.noise == "off" else read_noise()
    begin_s = time.monotonic()
    yield watch
    if before is not None:
        after = read_noise(closing=True)
        watch.noise = judge(before, after, wall_s=time.monotonic() - begin_s)


def document_of(
    folder: Path,
    session: Session,
    settings: Settings,
    measured: Measured,
    watch: Watch,
    device: dict[str, dict[str, float]] | None,
) -> dict[str, Any]:
    """The document of what was measured."""
    watch.environment["children_peak_rss_bytes"] = peak_rss_of_children_bytes()
    return make_document(
        measured,
        settings,
        batch_size=session.batch_size,
        ran_on=session.ran_on,
        fingerprint=fingerprint(session.manifest),
        environment=watch.environment,
        load={"load_s": session.load_s, "peak_rss_bytes": peak_rss_bytes(), "device": device},
        roofline=_roofline(folder, session),
        noise=watch.noise,
    )


def _roofline(folder: Path, session: Session) -> Roofline | None:
    """None where a test double runs the programs: it has no limits worth a name."""
    manifest = session.manifest
    if session.ran_on == "cpu":
        machine = measure_cpu()
    elif session.ran_on == manifest.target:
        machine = neuron_machine(manifest.target, ranks=manifest.tp, lnc=manifest.lnc)
    else:
        return None
    costs = costs_by_class(folder, manifest.programs, max_length=manifest.max_length)
    return Roofline(costs=costs, machine=machine, dtype=manifest.dtype, ranks=manifest.tp)
