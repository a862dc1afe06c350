"""Two artifacts measured in one process, taking turns run by run."""

import random
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronc.bench.alone import SHARE, Alone, Prompt
from neuronc.bench.bench_artifact import document_of, open_bench, watching
from neuronc.bench.compare.interleaved import Side, interleaved_order
from neuronc.bench.drive import Driver
from neuronc.bench.modes.cells import Warmth
from neuronc.bench.modes.runs import RunMode, RunSet, rates, run_once
from neuronc.bench.run import RUNS_SHARE, Bench
from neuronc.bench.settings import Settings
from neuronc.bench.statistics.convergence import Rule
from neuronc.errors import UsageError
from neuronc.progress import SILENT, Progress
from neuronc.recipe import Place
from neuronc.runtime.request import Request
from neuronc.runtime.session import Session

REPEATS = 5
"""Of each mode and side, where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """One side, ready to run."""

    folder: Path
    session: Session
    bench: Bench[Session, Request]
    driver: Driver[Request]
    warmth: Warmth
    alone: dict[Prompt, Alone]
    sets: list[RunSet]


def measure_pair(
    a: Path, b: Path, settings: Settings, *, on: Place = "target", progress: Progress = SILENT
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A document of each artifact; both made the same requests, in blocks of one run of each.

    Memory is that of both artifacts. What the machine does in a bad minute is in both.

    Raises:
        PlanError: a request does not fit one of them.
        BenchmarkError: an engine failed or gave other tokens than asked for.
    """
    repeats = settings.repeats or REPEATS
    settings = replace(settings, repeats=repeats)
    with ExitStack() as stack:
        # All sessions first: the number of host devices is fixed by the first use of any.
        by_folder = {
            folder: stack.enter_context(closing(Session.open(folder, on=on, progress=progress)))
            for folder in sorted(dict.fromkeys((a, b)), key=_ranks, reverse=True)
        }
        with watching(settings) as watch:
            sides: dict[Side, _Opened] = {
                "A": _open(a, by_folder[a], settings, progress),
                "B": _open(b, by_folder[b], settings, progress),
            }
            _share_requests(sides["A"].sets, sides["B"].sets)
            _take_turns(sides, settings, repeats, progress)
        documents = [
            document_of(
                side.folder,
                side.session,
                settings,
                side.bench.finish(side.warmth, (), side.sets, side.alone),
                watch,
                None,
            )
            for side in sides.values()
        ]
    return documents[0], documents[1]


def _ranks(folder: Path) -> int:
    from neuronc.artifact.manifest import read_manifest

    return read_manifest(folder).tp


def _open(folder: Path, session: Session, settings: Settings, progress: Progress) -> _Opened:
    session.require(embeds=False)
    bench = open_bench(folder, session)
    allowed, warmth = bench.warm_up(settings, progress)
    mine_s = settings.time_budget_s / 2
    bench.require_time(settings, warmth, allowed, mine_s, num_artifacts=2)
    share_s = RUNS_SHARE * mine_s
    modes = bench.plan(settings, warmth, allowed, share_s * 3 / (settings.repeats or REPEATS))
    return _Opened(
        folder=folder,
        session=session,
        bench=bench,
        driver=bench.driver(settings),
        warmth=warmth,
        alone=bench.answer_alone(settings, modes, SHARE * mine_s, progress),
        sets=[RunSet(mode=mode) for mode in modes],
    )


def _share_requests(a: Sequence[RunSet], b: Sequence[RunSet]) -> None:
    """Give both sides as many requests as the slower one has time for."""
    if len(a) != len(b):  # the default loads go by the batch size
        message = f"A has {len(a)} loads to measure and B {len(b)}: their batch sizes differ"
        hint = "measure both with neuronc bench and the same --concurrency, and compare the files"
        raise UsageError(message, hint=hint)
    for mine, other in zip(a, b, strict=True):
        count = min(len(mine.mode.requests), len(other.mode.requests))
        for found in (mine, other):
            found.mode = _cut(found.mode, count)


def _cut(mode: RunMode, count: int) -> RunMode:
    return replace(mode, requests=mode.requests[:count])


def _take_turns(
    sides: dict[Side, _Opened], settings: Settings, repeats: int, progress: Progress
) -> None:
    seed, num_modes = settings.workload.seed, len(sides["A"].sets)
    order = random.Random(f"modes {seed}")
    total = 2 * repeats * num_modes
    with progress.stage("measuring A and B in turn", total=total, unit="runs", still=True) as stage:
        for block in interleaved_order(repeats, seed):
            for number in order.sample(range(num_modes), num_modes):
                for name in block:
                    side = sides[name]
                    run_once(side.driver, side.sets[number], settings.slo)
                    stage.advance(1, note=f"{name}: {rates(side.sets[number])}")
    rule = Rule(min_repeats=repeats, max_repeats=repeats)
    for found in (found for side in sides.values() for found in side.sets):
        metrics = [summary.metrics for summary in found.summaries]
        found.decision = rule.decide(metrics, elapsed_s=0.0, next_s=0.0)
