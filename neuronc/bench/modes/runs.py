"""Whole runs of requests, repeated in random order until their numbers are known well enough."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic

from neuronc.bench.drive import Driver
from neuronc.bench.engine_protocol import RequestT
from neuronc.bench.run_summary import RunSummary, summarize_run
from neuronc.bench.settings import Mode
from neuronc.bench.slo import Slo
from neuronc.bench.statistics.convergence import Decision, Rule
from neuronc.bench.statistics.estimate import estimate
from neuronc.bench.timeline import Timeline
from neuronc.bench.workload.load import Load
from neuronc.bench.workload.requests import TimedRequest
from neuronc.progress import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class RunMode:
    """One kind of run.

    Attributes:
        mode: What it is part of; a sweep has several.
        limit_s: When a run is ended whatever is left; None for never.
    """

    mode: Mode
    load: Load
    requests: tuple[TimedRequest, ...]
    limit_s: float | None = None


@dataclass(slots=True)
class RunSet:
    """The repeats of one kind of run.

    Attributes:
        decision: Why there are no more; None while there are.
    """

    mode: RunMode
    timelines: list[Timeline] = field(default_factory=list)
    summaries: list[RunSummary] = field(default_factory=list)
    decision: Decision | None = None

    def values(self, metric: str) -> list[float | None]:
        """``metric`` of every repeat; None where it is undefined."""
        return [summary.metrics[metric] for summary in self.summaries]

    def mean(self, metric: str) -> float | None:
        """The mean of ``metric`` over the repeats that define it."""
        return estimate(self.values(metric)).value


@dataclass(frozen=True, kw_only=True)
class Repeater(Generic[RequestT]):
    """Runs modes again and again.

    Attributes:
        repeats: So many of each, or None for as many as the numbers need.
        budget_s: For all runs together; nothing begins that would not end in it.
        slo: Judged in every run.
    """

    driver: Driver[RequestT]
    repeats: int | None
    budget_s: float
    seed: int
    slo: Slo | None = None

    def measure(self, modes: Sequence[RunMode], stage: Stage) -> list[RunSet]:
        """Rounds of one run of every mode that still needs one, in random order.

        What the machine does in a bad second is so shared by all of them.
        """
        sets = [RunSet(mode=mode) for mode in modes]
        order, begin_s = random.Random(self.seed), time.monotonic()
        while unfinished := [found for found in sets if found.decision is None]:
            order.shuffle(unfinished)
            for found in unfinished:
                run_begin_s = time.monotonic()
                run_once(self.driver, found, self.slo, _telling(found, stage))
                now_s = time.monotonic()
                stage.advance(1, note=rates(found))
                waiting = sum(other.decision is None for other in sets)
                decision = self._rule().decide(
                    [summary.metrics for summary in found.summaries],
                    elapsed_s=now_s - begin_s,
                    next_s=(now_s - run_begin_s) * waiting,
                )
                found.decision = None if decision.go_on else decision
        return sets

    def _rule(self) -> Rule:
        if self.repeats is None:
            return Rule(budget_s=self.budget_s)
        return Rule(min_repeats=self.repeats, max_repeats=self.repeats)


def _telling(found: RunSet, stage: Stage) -> Callable[[int, float], None]:
    """Says how long a run waits for arrivals still."""

    def tell(num_left: int, left_s: float) -> None:
        sent = len(found.mode.requests) - num_left
        told = f"{sent} of {len(found.mode.requests)} requests sent, {left_s:,.0f} s left"
        stage.advance(0, note=f"{found.mode.mode}: {told} in this run")

    return tell


def run_once(
    driver: Driver[RequestT],
    found: RunSet,
    slo: Slo | None,
    on_wait: Callable[[int, float], None] = lambda _, __: None,
) -> None:
    """Add one repeat to ``found``."""
    timeline = driver.drive(
        found.mode.requests,
        concurrency=found.mode.load.concurrency,
        limit_s=found.mode.limit_s,
        on_wait=on_wait,
    )
    found.timelines.append(timeline)
    found.summaries.append(summarize_run(timeline, slo))


def rates(found: RunSet) -> str:
    """What the last run came to, for those who wait."""
    last = found.summaries[-1].metrics
    rate, ttft = last["output_tokens_per_s"], last["ttft_ms.p50"]
    told = [] if rate is None else [f"{rate:.1f} tok/s"]
    told += [] if ttft is None else [f"ttft {ttft:.1f} ms"]
    return ", ".join([found.mode.mode, *told])
