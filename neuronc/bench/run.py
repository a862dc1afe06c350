"""Warm up, measure, check: an opened artifact and settings to everything a report needs."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from neuronc.bench.alone import SHARE, Alone, Prompt, answer_alone, prompts_of
from neuronc.bench.drive import Clock, Driver, PerfClock
from neuronc.bench.engine_protocol import EngineFactory, RequestFactory, RequestT, SessionLike
from neuronc.bench.modes.cells import (
    Cell,
    Warmth,
    cells_of_contexts,
    in_order,
    list_cells,
    warm_up,
)
from neuronc.bench.modes.planning import Planner
from neuronc.bench.modes.runs import Repeater, RunMode, RunSet
from neuronc.bench.modes.steps import MAX_ROUNDS, MIN_ROUNDS, MeasuredCell, measure_steps
from neuronc.bench.modes.time_needed import Needed, require_time
from neuronc.bench.reference import KnownSequence, TokenCheck, check_tokens
from neuronc.bench.settings import Settings
from neuronc.bench.workload.requests import allowed_ids
from neuronc.progress import SILENT, Progress

SessionT = TypeVar("SessionT", bound=SessionLike)

LONG_RUN_S = 2.0  # from which people are told before
STEPS_SHARE = 0.2  # of the time budget
RUNS_SHARE = 0.7  # of what is left then: planning is not exact


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a benchmark found.

    Attributes:
        warmth: How the programs warmed up.
        cells: Of the mode ``steps``; empty without it.
        cells_left_out: Places of the context that there was no time for.
        runs: Every run that was made, with its repeats.
        tokens: Whether their tokens were right.
    """

    warmth: Warmth
    cells: tuple[MeasuredCell, ...]
    runs: tuple[RunSet, ...]
    tokens: TokenCheck
    cells_left_out: tuple[Cell, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bench(Generic[SessionT, RequestT]):
    """An opened artifact with the means to drive it.

    Attributes:
        forbidden_ids: Special tokens; prompts hold none.
        stop_ids: What ends an answer where end-of-sequence is not ignored.
        known: What verification recorded of the original model's tokens.
        allowed: The largest relative error of logits that verification allows; None without it.
    """

    session: SessionT
    engine_factory: EngineFactory[SessionT, RequestT]
    make_request: RequestFactory[RequestT]
    forbidden_ids: Collection[int] = ()
    stop_ids: frozenset[int] = frozenset()
    known: Sequence[KnownSequence] = ()
    allowed: float | None = None
    clock: Clock | None = None

    def measure(self, settings: Settings, progress: Progress = SILENT) -> Measured:
        """Measure every mode of ``settings``, in about its ``time_budget_s``.

        Raises:
            UsageError: the arrivals, or a whole trace, take longer than that.
            PlanError: a request does not fit the artifact.
            BenchmarkError: the engine failed or gave other tokens than asked for.
        """
        deadline_s = time.monotonic() + settings.time_budget_s
        allowed, warmth = self.warm_up(settings, progress)
        needed = self.require_time(settings, warmth, allowed, deadline_s - time.monotonic())
        cells: tuple[MeasuredCell, ...] = ()
        left_out: tuple[Cell, ...] = ()
        if "steps" in settings.modes:
            chosen, left_out = self._cells(settings, warmth)
            cells = self._steps(settings, chosen, allowed, progress)
        alone_s = SHARE * settings.time_budget_s
        left_s = deadline_s - time.monotonic() - alone_s
        modes = self.plan(settings, warmth, allowed, RUNS_SHARE * left_s)
        alone = self.answer_alone(settings, modes, alone_s, progress)
        runs = self._runs(settings, modes, deadline_s, progress, needed)
        found = self.finish(warmth, cells, runs, alone)
        return replace(found, cells_left_out=left_out)

    def warm_up(self, settings: Settings, progress: Progress) -> tuple[np.ndarray, Warmth]:
        """Token ids that prompts may hold, and every program ready.

        Raises:
            PlanError: a request does not fit the artifact.
        """
        settings.workload.shapes(1, max_length=self.session.max_length)
        allowed = allowed_ids(self.session.vocab_size, self.forbidden_ids)
        with progress.stage("warming up every program"):
            return allowed, warm_up(self.session, allowed)

    def require_time(
        self,
        settings: Settings,
        warmth: Warmth,
        allowed: np.ndarray,
        budget_s: float,
        *,
        num_artifacts: int = 1,
    ) -> list[Needed]:
        """What one run of each mode takes at least.

        Raises:
            UsageError: the arrivals, or a whole trace, take longer than ``budget_s``.
        """
        needed = self._planner(settings, warmth, allowed, budget_s).needed()
        repeats = settings.repeats or 1
        require_time(needed, repeats=repeats, budget_s=budget_s, num_artifacts=num_artifacts)
        return needed

    def plan(
        self, settings: Settings, warmth: Warmth, allowed: np.ndarray, budget_s: float
    ) -> list[RunMode]:
        """The runs that ``settings`` ask for and ``budget_s`` allows."""
        return self._planner(settings, warmth, allowed, budget_s).modes()

    def _planner(
        self, settings: Settings, warmth: Warmth, allowed: np.ndarray, budget_s: float
    ) -> Planner:
        return Planner(
            session=self.session,
            settings=settings,
            warmth=warmth,
            allowed=allowed,
            known=self.known,
            budget_s=budget_s,
        )

    def answer_alone(
        self, settings: Settings, modes: Sequence[RunMode], budget_s: float, progress: Progress
    ) -> dict[Prompt, Alone]:
        """Answers to the prompts of ``modes`` that no record tells whole, as ``budget_s`` allows.

        Raises:
            BenchmarkError: Logits are not finite.
        """
        wanted = {
            prompt: count
            for prompt, count in prompts_of(mode.requests for mode in modes).items()
            if not any(sequence.covers(prompt, count) for sequence in self.known)
        }
        if not wanted:
            return {}
        with progress.stage(
            "answering prompts alone, to compare", total=len(wanted), unit="prompts"
        ) as stage:
            return answer_alone(
                self.session,
                wanted,
                stop_ids=self._stops(settings),
                allowed=self.allowed,
                budget_s=budget_s,
                stage=stage,
            )

    def finish(
        self,
        warmth: Warmth,
        cells: tuple[MeasuredCell, ...],
        runs: Sequence[RunSet],
        alone: Mapping[Prompt, Alone],
    ) -> Measured:
        """What was measured, its tokens checked."""
        timed = [(found.mode.requests, line) for found in runs for line in found.timelines]
        same_bits = len(self.session.decode_buckets) == 1
        tokens = check_tokens(timed, self.known, same_bits=same_bits, alone=alone)
        return Measured(warmth=warmth, cells=cells, runs=tuple(runs), tokens=tokens)

    def _cells(
        self, settings: Settings, warmth: Warmth
    ) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
        """What to measure: all places of the context, where there is time; and what is left out."""
        cells, more = list_cells(self.session), cells_of_contexts(self.session)
        round_ms = sum(warmth.step_ms(cell.phase, cell.bucket) for cell in (*cells, *more))
        if MIN_ROUNDS * round_ms / 1000 > STEPS_SHARE * settings.time_budget_s:
            return cells, more
        return in_order((*cells, *more)), ()

    def _steps(
        self,
        settings: Settings,
        cells: Sequence[Cell],
        allowed: np.ndarray,
        progress: Progress,
    ) -> tuple[MeasuredCell, ...]:
        with progress.stage(
            "timing every program", total=MAX_ROUNDS, unit="rounds", still=True
        ) as stage:
            return measure_steps(
                self.session,
                cells,
                allowed,
                budget_s=STEPS_SHARE * settings.time_budget_s,
                seed=settings.workload.seed,
                stage=stage,
            )

    def _runs(
        self,
        settings: Settings,
        modes: Sequence[RunMode],
        deadline_s: float,
        progress: Progress,
        needed: Sequence[Needed],
    ) -> list[RunSet]:
        if not modes:
            return []
        repeater = Repeater(
            driver=self.driver(settings),
            repeats=settings.repeats,
            budget_s=deadline_s - time.monotonic(),
            seed=settings.workload.seed,
            slo=settings.slo,
        )
        names = ", ".join(dict.fromkeys(mode.mode for mode in modes))
        run_s = sum(run.run_s for run in needed)
        if run_s >= LONG_RUN_S:
            each = " of each" if len(modes) > 1 else ""
            names += f" (one run{each}: {run_s:,.0f} s or more)"
        # How many repeats it takes is not known before, unless it was said.
        total = None if settings.repeats is None else len(modes) * settings.repeats
        with progress.stage(f"measuring {names}", total=total, unit="runs", still=True) as stage:
            return repeater.measure(modes, stage)

    def driver(self, settings: Settings) -> Driver[RequestT]:
        """Makes an engine for every run."""
        return Driver(
            make_engine=lambda recorder: self.engine_factory(
                self.session, on_step=recorder, prefill_policy=settings.prefill_policy
            ),
            make_request=self.make_request,
            clock=self.clock or PerfClock(),
            vocab_size=self.session.vocab_size,
            batch_size=self.session.batch_size,
            stop_ids=self._stops(settings),
        )

    def _stops(self, settings: Settings) -> frozenset[int]:
        return frozenset() if settings.workload.ignore_eos else self.stop_ids
