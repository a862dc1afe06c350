"""Steps by class: how long they take, how steady they are, and what slowed the slowest."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from neuronc.bench import metrics
from neuronc.bench.timeline import Timeline, Usage

MAX_SLOW_STEPS = 10
SLOW = 1.25
"""Times the median of its class, from which a step counts as slow."""
MANY_FAULTS = 64  # minor faults: new memory of 256 KB in one step


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowStep:
    """A step that took long for its class, and what the system counted while it ran.

    Attributes:
        times_median: Its time over the median of its class.
        repeat: Which repeat it was in.
        at_s: When in that repeat.
        gc_ms: Of garbage collection within it.
        likely: What of this explains it best; ``unexplained`` if nothing does.
    """

    step_class: str
    ms: float
    times_median: float
    repeat: int
    at_s: float
    active_slots: int
    major_faults: int
    minor_faults: int
    involuntary_switches: int
    gc_ms: float
    likely: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        data = asdict(self)
        return {"class": data.pop("step_class"), **data}


def times_by_class(timelines: Iterable[Timeline]) -> dict[str, list[float]]:
    """Milliseconds of every step by class; prefill first, small buckets first."""
    groups: defaultdict[tuple[bool, int, str], list[float]] = defaultdict(list)
    for timeline in timelines:
        for step in timeline.steps:
            key = (step.phase != "prefill", step.bucket, metrics.step_class(step))
            groups[key].append(metrics.step_ms(step))
    return {key[2]: groups[key] for key in sorted(groups)}


def occupancy_by_class(timelines: Iterable[Timeline]) -> dict[str, float]:
    """Share of the slots in use, over the calls of each decode class."""
    used: defaultdict[str, list[float]] = defaultdict(list)
    for timeline in timelines:
        for step in timeline.steps:
            if step.phase == "decode":
                used[metrics.step_class(step)].append(len(step.slots) / timeline.batch_size)
    return {name: fmean(shares) for name, shares in used.items()}


def summary_by_class(timeline: Timeline) -> dict[str, dict[str, float]]:
    """Count, mean and total of each class in one run."""
    return {
        name: {"count": len(times), "mean_ms": fmean(times), "total_ms": sum(times)}
        for name, times in times_by_class([timeline]).items()
    }


def slowest_steps(timelines: Sequence[Timeline]) -> list[SlowStep]:
    """The steps that were slowest for their class, at most `MAX_SLOW_STEPS`, worst first."""
    medians = {name: median(times) for name, times in times_by_class(timelines).items()}
    slow = [
        found
        for repeat, timeline in enumerate(timelines)
        for number in range(len(timeline.steps))
        if (found := _slow_step(timeline, number, repeat, medians)) is not None
    ]
    return sorted(slow, key=lambda step: -step.times_median)[:MAX_SLOW_STEPS]


def _slow_step(
    timeline: Timeline, number: int, repeat: int, medians: Mapping[str, float]
) -> SlowStep | None:
    step = timeline.steps[number]
    name, taken_ms = metrics.step_class(step), metrics.step_ms(step)
    times_median = taken_ms / medians[name] if medians[name] else 1.0
    if times_median < SLOW:
        return None
    used = _used(timeline, number)
    collected_ns = sum(
        max(0, min(end, step.end_ns) - max(begin, step.start_ns))
        for begin, end in timeline.collections_ns
    )
    gc_ms = collected_ns / metrics.NS_PER_MS
    return SlowStep(
        step_class=name,
        ms=taken_ms,
        times_median=times_median,
        repeat=repeat,
        at_s=(step.start_ns - timeline.begin_ns) / metrics.NS_PER_S,
        active_slots=len(step.slots),
        gc_ms=gc_ms,
        likely=_likely(used, gc_ms, taken_ms - medians[name]),
        **asdict(used),
    )


def _used(timeline: Timeline, number: int) -> Usage:
    """What was counted between the end of the step before and the end of this one."""
    if len(timeline.usage) != len(timeline.steps) + 1:
        return Usage(minor_faults=0, major_faults=0, involuntary_switches=0)
    before, after = timeline.usage[number], timeline.usage[number + 1]
    return Usage(
        minor_faults=after.minor_faults - before.minor_faults,
        major_faults=after.major_faults - before.major_faults,
        involuntary_switches=after.involuntary_switches - before.involuntary_switches,
    )


def _likely(used: Usage, gc_ms: float, excess_ms: float) -> str:
    if gc_ms > excess_ms / 2:
        return "garbage collection"
    if used.major_faults:
        return "major page faults: memory was read from the disk"
    if used.involuntary_switches:
        return "involuntary switches: other work took the cores"
    if used.minor_faults > MANY_FAULTS:
        return "minor page faults: new memory was mapped"
    return "unexplained"
