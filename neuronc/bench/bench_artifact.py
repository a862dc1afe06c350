"""An artifact's folder to a benchmark document."""

import time
from dataclasses import replace
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
from neuronc.bench.noise import judge
from neuronc.bench.noise_sample import NoiseSample, read_noise
from neuronc.bench.reference import read_known
from neuronc.bench.roofline.cpu_peaks import measure_cpu
from neuronc.bench.roofline.machine import neuron_machine
from neuronc.bench.roofline.program_cost import costs_by_class
from neuronc.bench.roofline.steps import Roofline
from neuronc.bench.run import Bench
from neuronc.bench.settings import Settings
from neuronc.progress import SILENT, Progress
from neuronc.runtime.engine import Engine
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session
from neuronc.runtime.text import stop_token_ids


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
    )


def bench_artifact(
    folder: Path, session: Session, settings: Settings, *, progress: Progress = SILENT
) -> dict[str, Any]:
    """Measure the artifact in ``folder``, opened as ``session``; the document.

    Raises:
        PlanError: a request does not fit the artifact.
        BenchmarkError: the engine failed or gave other tokens than asked for.
    """
    environment, begin_s = read_environment(), time.monotonic()
    before = _look(settings, closing=False)
    left_s = max(1.0, settings.time_budget_s - session.load_s)
    bench = open_bench(folder, session)
    measured = bench.measure(replace(settings, time_budget_s=left_s), progress)
    after = _look(settings, closing=True)
    wall_s = time.monotonic() - begin_s
    device = measure_device(session, progress=progress)
    environment["children_peak_rss_bytes"] = peak_rss_of_children_bytes()
    return make_document(
        measured,
        settings,
        batch_size=session.batch_size,
        ran_on=session.ran_on,
        fingerprint=fingerprint(session.manifest),
        environment=environment,
        load={"load_s": session.load_s, "peak_rss_bytes": peak_rss_bytes(), "device": device},
        roofline=_roofline(folder, session),
        noise=None if before is None or after is None else judge(before, after, wall_s=wall_s),
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


def _look(settings: Settings, *, closing: bool) -> NoiseSample | None:
    """What else the machine does, unless nobody wants to know."""
    return None if settings.noise == "off" else read_noise(closing=closing)
