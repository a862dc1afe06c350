"""Does what was asked for fit the time budget? Told before the first run, not found out in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from neuronc.bench.workload.load import Load
from neuronc.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Needed:
    """What one run takes at least.

    Attributes:
        name: Of the run, for people.
        num_requests: Of the run.
        arriving_s: Until its last request arrives; 0 where nothing is scheduled.
        running_s: As the programs' times say, each request served at once.
        whole_trace: Whether a trace is run whole because nobody said how much of it.
        fitting: How many of a trace's requests have room in the budget.
    """

    name: str
    num_requests: int
    arriving_s: float
    running_s: float
    whole_trace: bool = False
    fitting: int = 0

    @property
    def run_s(self) -> float:
        """The longer of both."""
        return max(self.arriving_s, self.running_s)


def name_of(mode: str, load: Load) -> str:
    """``serve at 2 a second``."""
    if load.rate is not None:
        return f"{mode} at {load.rate:g} a second"
    return mode if load.concurrency is None else f"{mode}, {load.concurrency} at a time"


def require_time(
    needed: Sequence[Needed], *, repeats: int, budget_s: float, num_artifacts: int = 1
) -> None:
    """Refuse runs that a schedule or a whole trace makes longer than the budget.

    How long requests run that were asked for by number is an estimate, and theirs to ask for.

    Args:
        needed: By the runs of one artifact.
        repeats: Of each.
        budget_s: What is left for these.
        num_artifacts: That are measured alike within the whole budget.

    Raises:
        UsageError: It says how long they take, and what would fit.
    """
    arriving_s = repeats * sum(run.arriving_s for run in needed)
    whole = [run for run in needed if run.whole_trace]
    total_s = repeats * sum(run.run_s for run in needed)
    by_schedule = 0 < arriving_s > budget_s
    if not by_schedule and not (whole and total_s > budget_s):
        return
    worst = max(needed, key=lambda run: run.arriving_s if by_schedule else run.run_s)
    times = "" if repeats == 1 else f" {repeats} times"
    if by_schedule:
        what = f"the {worst.num_requests} requests of a run arrive over {worst.arriving_s:,.0f} s"
        least_s = arriving_s
    else:
        what = f"a run of the trace's {worst.num_requests} requests takes {worst.run_s:,.0f} s"
        least_s = total_s
    others = f" (with all others, {least_s:,.0f} s)" if len(needed) > 1 else ""
    message = (
        f"{worst.name}: {what} at least{times}{others}, and {max(0.0, budget_s):,.0f} s of the time"
        " budget are left"
    )
    raise UsageError(message, hint=_hint(needed, whole, num_artifacts * least_s))


def _hint(needed: Sequence[Needed], whole: Sequence[Needed], least_s: float) -> str:
    more = f"--time-budget {math.ceil(1.2 * least_s + 15)}"
    if whole:
        fitting = min(run.fitting for run in needed)
        first = f"--requests {fitting} runs the first ones, " if fitting else ""
        return f"{first}{more} all of them"
    return f"use {more}, a higher --rate, fewer --requests or a --run-limit"
