"""Everything that was measured as one JSON document of the schema ``neuronc.bench/1``."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronc.artifact.manifest import WEIGHTS_DIR, Manifest
from neuronc.bench import metrics
from neuronc.bench.caveats import find_caveats
from neuronc.bench.definitions import DEFINITIONS
from neuronc.bench.engine_protocol import StepLike
from neuronc.bench.modes.runs import RunSet
from neuronc.bench.modes.sweep import Axis, Point, find_best, find_knee, kept_up
from neuronc.bench.noise import Noise
from neuronc.bench.reference import TokenCheck
from neuronc.bench.roofline.steps import Roofline
from neuronc.bench.run import Measured
from neuronc.bench.run_set_report import cell_dict, run_set_dict
from neuronc.bench.settings import Settings
from neuronc.bench.statistics.estimate import wilson
from neuronc.bench.timeline import RequestRecord, Timeline

SCHEMA = "neuronc.bench/1"
MAX_TIMELINE_STEPS = 4000
NOT_LOOKED: dict[str, Any] = {
    "noisy": False,
    "findings": ["nobody looked whether the machine was quiet (--noise off)"],
    "before": {},
    "after": {},
}
NEURON_TARGETS = ("inf2", "trn1", "trn1n", "trn2", "trn3")


def headline(target: str) -> str:
    """What was measured, in words that leave no doubt whether a Neuron device took part."""
    if target == "cpu":
        return "CPU target (XLA:CPU, not a Neuron device)"
    if target in NEURON_TARGETS:
        return f"{target} target (Neuron device)"
    return f"{target} target (not known to be a Neuron device)"


def fingerprint(manifest: Manifest) -> dict[str, Any]:
    """What was measured: two results are of the same thing if this is the same."""
    weights = sorted(f.sha256 for f in manifest.files if f.path.startswith(f"{WEIGHTS_DIR}/rank-"))
    return {
        "artifact_digest": manifest.digest,
        "weights_digest": hashlib.sha256("".join(weights).encode()).hexdigest(),
        "model": dict(manifest.model),
        "target": manifest.target,
        "tp": manifest.tp,
        "batch_size": manifest.batch_size,
        "max_length": manifest.max_length,
        "dtype": manifest.dtype,
        "quantize": manifest.quantize,
        "prefill_buckets": list(manifest.prefill_buckets),
        "decode_buckets": list(manifest.decode_buckets),
        "tool_versions": dict(manifest.tool_versions),
        "verified": bool((manifest.verification or {}).get("passed")),
    }


def make_document(
    measured: Measured,
    settings: Settings,
    *,
    batch_size: int,
    ran_on: str,
    fingerprint: Mapping[str, Any],
    environment: Mapping[str, Any],
    load: Mapping[str, Any],
    roofline: Roofline | None,
    noise: Noise | None,
) -> dict[str, Any]:
    """The document; plain types only, an undefined number is None.

    A run whose tokens were wrong has no modes: none of its numbers means anything.
    """
    problems = measured.tokens.problems
    noisy = noise is not None and noise.noisy
    status = "invalid" if problems else "noisy" if noisy else "ok"
    caveats = find_caveats(measured, batch_size=batch_size, verified=bool(fingerprint["verified"]))
    modes = {} if problems else _modes(measured, settings, roofline)
    return {
        "schema": SCHEMA,
        "status": status,
        "headline": headline(ran_on),
        "ran_on": ran_on,
        "fingerprint": dict(fingerprint),
        "environment": dict(environment),
        "definitions": dict(DEFINITIONS),
        "workload": _workload(measured, settings),
        "load": {**load, "first_call_ms": measured.warmth.first_call_ms},
        "machine": None if roofline is None else roofline.machine.to_dict(),
        "modes": modes,
        "noise": NOT_LOOKED if noise is None else noise.to_dict(),
        "validation": _validation(measured.tokens),
        "caveats": [
            *caveats,
            *_of_best(modes, settings),
            *(NOT_LOOKED["findings"] if noise is None else noise.findings),
        ],
        "timeline": timeline_dict(measured.runs[-1].timelines[-1]) if measured.runs else None,
    }


def _workload(measured: Measured, settings: Settings) -> dict[str, Any]:
    loads = [found.mode.load.to_dict() for found in measured.runs if found.mode.mode == "serve"]
    load = loads[0] if loads else {"arrival": "by mode", "rate": None, "concurrency": None}
    return {
        **settings.workload.to_dict(),
        "num_requests": max((len(f.mode.requests) for f in measured.runs), default=0),
        **load,
        "prefill_policy": settings.prefill_policy,
    }


def _modes(measured: Measured, settings: Settings, roofline: Roofline | None) -> dict[str, Any]:
    modes: dict[str, Any] = {}
    if measured.cells:
        modes["steps"] = {"cells": [cell_dict(cell, roofline) for cell in measured.cells]}
    for found in measured.runs:
        if found.mode.mode != "sweep":
            modes[found.mode.mode] = run_set_dict(found, settings.slo, roofline)
    points = [found for found in measured.runs if found.mode.mode == "sweep"]
    if points:
        modes["sweep"] = _sweep(points, settings, roofline)
    return modes


def _sweep(sets: Sequence[RunSet], settings: Settings, roofline: Roofline | None) -> dict[str, Any]:
    axis: Axis = "rate" if sets[0].mode.load.rate is not None else "concurrency"
    points = [_point(found) for found in sets]
    knee = find_knee(points, axis)
    best = None if settings.slo is None else find_best(points, settings.slo.attainment)
    return {
        "by": axis,
        "points": [
            {"at": point.at, "runs": run_set_dict(found, settings.slo, roofline)}
            for point, found in zip(points, sets, strict=True)
        ],
        "knee": None if knee is None else {"at": knee.at, "why": knee.why},
        "best": None if best is None else _best(best),
    }


def _of_best(modes: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    """A doubt about the best load, if so few requests cannot show what it is called best for."""
    best = (modes.get("sweep") or {}).get("best")
    if best is None or settings.slo is None:
        return
    found, wanted = best["attainment"], settings.slo.attainment
    if found["low"] < wanted:
        yield (
            f"sweep: {best['at']:g} is the best load by {found['good']} good of {found['sent']}"
            f" requests, which are too few to tell from {found['low']:.0%}; {wanted:.0%} were"
            " wanted; try more --requests or a larger --time-budget"
        )


def _best(point: Point) -> dict[str, Any]:
    return {"at": point.at, "attainment": wilson(point.good or 0, point.sent).to_dict()}


def _point(found: RunSet) -> Point:
    load, judged = found.mode.load, [s.slo for s in found.summaries if s.slo is not None]
    return Point(
        at=float(load.rate if load.rate is not None else load.concurrency or 0),
        output_tokens_per_s=found.mean("output_tokens_per_s") or 0.0,
        kept_up=kept_up(found.timelines),
        good=sum(result.good for result in judged) if judged else None,
        sent=sum(result.sent for result in judged),
    )


def _validation(tokens: TokenCheck) -> dict[str, Any]:
    return {
        "valid": not tokens.problems,
        "problems": list(tokens.problems),
        "tokens_checked": tokens.tokens_checked,
        "tokens_with_reference": tokens.tokens_with_reference,
        "tokens_within_margin": tokens.tokens_within_margin,
        "tokens_not_repeated": tokens.tokens_not_repeated,
        "source": _source(tokens),
        "requests": tokens.requests,
        "requests_checked": tokens.requests_checked,
        "tokens_alone": tokens.tokens_alone,
    }


def _source(tokens: TokenCheck) -> str:
    if tokens.tokens_with_reference:
        return "recorded by verify"
    return "made alone" if tokens.tokens_alone else "repeats only"


def all_timelines(measured: Measured) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every repeat of every run, whole, with what it is a repeat of."""
    for found in measured.runs:
        load = found.mode.load
        labels = {"mode": found.mode.mode, "concurrency": load.concurrency, "rate": load.rate}
        for repeat, timeline in enumerate(found.timelines):
            yield {**labels, "repeat": repeat}, timeline_dict(timeline, most_steps=None)


def timeline_dict(
    timeline: Timeline, *, most_steps: int | None = MAX_TIMELINE_STEPS
) -> dict[str, Any]:
    """One run, step by step and request by request, at most ``most_steps`` of the steps."""
    begin_ns, steps = timeline.begin_ns, timeline.steps[:most_steps]
    started = metrics.first_step_ns(timeline)
    return {
        "batch_size": timeline.batch_size,
        "begin_ns": 0,
        "steps": [step_dict(step, begin_ns) for step in steps],
        "requests": [
            request_dict(request, begin_ns, started.get(request.request_id))
            for request in timeline.requests
        ],
        "truncated": len(steps) < len(timeline.steps),
    }


def step_dict(step: StepLike, begin_ns: int) -> dict[str, Any]:
    """One step; times in ns from ``begin_ns``."""
    return {
        "class": metrics.step_class(step),
        "phase": step.phase,
        "bucket": step.bucket,
        "slots": list(step.slots),
        "request_ids": list(step.request_ids),
        "num_tokens": step.num_tokens,
        "start_ns": step.start_ns - begin_ns,
        "end_ns": step.end_ns - begin_ns,
    }


def request_dict(request: RequestRecord, begin_ns: int, admit_ns: int | None) -> dict[str, Any]:
    """One request; times in ns from ``begin_ns``, ``admit_ns`` when its first program began."""
    return {
        "request_id": request.request_id,
        "prompt_tokens": request.prompt_tokens,
        "new_tokens": request.new_tokens,
        "sched_ns": request.sched_ns - begin_ns,
        "send_ns": None if request.send_ns is None else request.send_ns - begin_ns,
        "admit_ns": None if admit_ns is None else admit_ns - begin_ns,
        "token_times_ns": [time_ns - begin_ns for time_ns in request.token_times_ns],
        "finish": request.finish,
        "error": None if request.is_done else "not done when the run ended",
    }
