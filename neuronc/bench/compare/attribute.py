"""Where the time of a regression went: which step classes got slower, and what is not in steps.

Time in steps per request is the sum over classes of (steps per request) * (mean step time). Its
change falls apart without a rest: each class contributes

    slower steps    (mean_B - mean_A) * the average of both numbers of steps
    more steps      (steps_B - steps_A) * the average of both means

What the whole run took per request and its steps did not is between the steps: scheduler, sampling
and the host's gap between executables. Where requests came by the clock (open loop) the run's
duration says nothing, and there is only the time that requests waited for a slot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from neuronc.bench.compare.names import Mode
from neuronc.bench.compare.rules import where
from neuronc.bench.compare.runs import Run

BETWEEN = "between steps (host)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What one step class, or the time between steps, adds to a request; ms, A to B.

    Attributes:
        share: Of everything that got slower; negative where this got faster. None if nothing did.
        ratio: Of the mean step times, B / A; None between steps and where only one has the class.
    """

    name: str
    slower_ms: float
    more_steps_ms: float
    share: float | None
    ratio: float | None

    @property
    def total_ms(self) -> float:
        """Both parts."""
        return self.slower_ms + self.more_steps_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """The change of one mode's time per request, largest contribution first.

    Attributes:
        at: The load of a sweep.
        change_ms: Sum of the contributions.
        queue_ms: Change of the mean time a request waited for a slot; it overlaps with the steps of
            other requests, so it is no part of the sum. None where undefined.
    """

    mode: Mode
    at: float | None = None
    contributions: tuple[Contribution, ...]
    change_ms: float
    queue_ms: float | None
    text: str

    @property
    def where(self) -> str:
        """The runs it is about, for people."""
        return where(self.mode, self.at)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PerRequest:
    steps: float = 0.0
    mean_ms: float | None = None


def attribute(runs_a: Sequence[Run], runs_b: Sequence[Run]) -> Attribution | None:
    """Of runs of one mode; None where there are none, or neither side has steps."""
    if not runs_a or not runs_b or not any(run.steps for run in (*runs_a, *runs_b)):
        return None
    of_a, of_b = _classes(runs_a), _classes(runs_b)
    parts = {
        name: _parts(of_a.get(name, _PerRequest()), of_b.get(name, _PerRequest()))
        for name in {**of_a, **of_b}
    }
    rest_a, rest_b = _between_ms(runs_a), _between_ms(runs_b)
    if rest_a is not None and rest_b is not None:
        parts[BETWEEN] = (rest_b - rest_a, 0.0, None)
    slower = sum(max(sum(part[:2]), 0.0) for part in parts.values())
    contributions = sorted(
        (_contribution(name, *part, of=slower) for name, part in parts.items()),
        key=lambda contribution: -contribution.total_ms,
    )
    queue_ms = _change(runs_a, runs_b, "queue_ms.mean")
    return Attribution(
        mode=runs_a[0].mode,
        at=runs_a[0].at,
        contributions=tuple(contributions),
        change_ms=sum(contribution.total_ms for contribution in contributions),
        queue_ms=queue_ms,
        text=_text(contributions, queue_ms, _change(runs_a, runs_b, "e2e_ms.mean")),
    )


def _classes(runs: Sequence[Run]) -> dict[str, _PerRequest]:
    """Steps a request and mean step time of each class, over all runs."""
    requests = sum(run.num_requests for run in runs)
    found = {}
    for name in dict.fromkeys(name for run in runs for name in run.steps):
        totals = [run.steps[name] for run in runs if name in run.steps]
        count = sum(total.count for total in totals)
        mean_ms = sum(total.total_ms for total in totals) / count
        found[name] = _PerRequest(steps=count / max(requests, 1), mean_ms=mean_ms)
    return found


def _parts(a: _PerRequest, b: _PerRequest) -> tuple[float, float, float | None]:
    """Slower steps and more steps, ms; and the ratio of the means."""
    if a.mean_ms is None or b.mean_ms is None:  # only one side has it: all of it is more steps
        mean_ms = a.mean_ms if b.mean_ms is None else b.mean_ms
        return 0.0, (b.steps - a.steps) * (mean_ms or 0.0), None
    slower = (b.mean_ms - a.mean_ms) * (a.steps + b.steps) / 2
    more = (b.steps - a.steps) * (a.mean_ms + b.mean_ms) / 2
    return slower, more, b.mean_ms / a.mean_ms if a.mean_ms > 0 else None


def _contribution(
    name: str, slower_ms: float, more_ms: float, ratio: float | None, *, of: float
) -> Contribution:
    share = (slower_ms + more_ms) / of if of > 0 else None
    return Contribution(
        name=name, slower_ms=slower_ms, more_steps_ms=more_ms, share=share, ratio=ratio
    )


def _between_ms(runs: Sequence[Run]) -> float | None:
    """Time per request that no step took; None where the duration is the arrivals'."""
    requests = sum(run.num_requests for run in runs)
    if not requests or any(run.open_loop or run.duration_s is None for run in runs):
        return None
    run_ms = sum(1000 * (run.duration_s or 0.0) for run in runs)
    steps_ms = sum(total.total_ms for run in runs for total in run.steps.values())
    return round((run_ms - steps_ms) / requests, 9)  # what is less comes from adding up


def _change(runs_a: Sequence[Run], runs_b: Sequence[Run], metric: str) -> float | None:
    means = [
        fmean(values) if values else None
        for values in (_defined([run.metrics for run in runs], metric) for runs in (runs_a, runs_b))
    ]
    return None if means[0] is None or means[1] is None else means[1] - means[0]


def _defined(metrics: Sequence[Mapping[str, float | None]], name: str) -> list[float]:
    return [value for found in metrics if (value := found.get(name)) is not None]


def _text(
    contributions: Sequence[Contribution], queue_ms: float | None, e2e_ms: float | None
) -> str:
    """One sentence: where to look first."""
    first = contributions[0]
    waits = queue_ms is not None and e2e_ms is not None and queue_ms > e2e_ms / 2 > 0
    queue = f"; requests wait {queue_ms:.3g} ms longer for a slot" if waits else ""
    if first.total_ms <= 0:
        return f"no step class got slower, nor the time between steps{queue}"
    if first.name == BETWEEN:
        return f"mostly not in the steps but between them: {first.total_ms:+.3g} ms{queue}"
    how = "slower steps" if first.slower_ms >= first.more_steps_ms else "more steps"
    return f"mostly {how} of {first.name}: {first.total_ms:+.3g} ms{queue}"
