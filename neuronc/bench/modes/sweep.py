"""Where more load stops paying: the knee, and the most load that still meets the objectives."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from neuronc.bench.timeline import Timeline

Axis = Literal["rate", "concurrency"]

KEEPS_UP = 0.9
"""Of the rate at which requests arrive: first tokens that come slower show a growing queue."""
WORTH_IT = 0.1
"""Gain in throughput over gain in concurrency, below which more of it only makes requests wait."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of a sweep.

    Attributes:
        at: Requests per second, or requests in flight.
        output_tokens_per_s: Generated.
        kept_up: Rate of the first tokens over rate of the arrivals, see `kept_up`.
        good: Requests that met every objective; None without any.
        sent: Requests.
    """

    at: float
    output_tokens_per_s: float
    kept_up: float
    good: int | None
    sent: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Knee:
    """The last point before more load stops paying, and what shows it."""

    at: float
    why: str


def find_knee(points: Sequence[Point], axis: Axis) -> Knee | None:
    """The knee of ``points`` in ascending order; None if the sweep did not get that far.

    By rate: the last one that the engine keeps up with; None, too, if it does with none. By
    concurrency: the last one up to which
    each step up brought at least `WORTH_IT` of its share in output tokens per second.
    """
    if axis == "rate" and points and points[0].kept_up < KEEPS_UP:
        return None
    for before, after in pairwise(points):
        if axis == "rate":
            if after.kept_up < KEEPS_UP:
                why = f"at {after.at:g} a second, first tokens come at {after.kept_up:.0%} of it"
                return Knee(at=before.at, why=why)
            continue
        if before.output_tokens_per_s == 0:
            continue
        gained = after.output_tokens_per_s / before.output_tokens_per_s - 1
        if gained < WORTH_IT * (after.at / before.at - 1):
            why = f"{after.at:g} in flight give {gained:+.1%} output tokens a second"
            return Knee(at=before.at, why=why)
    return None


def find_best(points: Sequence[Point], wanted_attainment: float) -> Point | None:
    """The largest load whose share of good requests is at least ``wanted_attainment``.

    Where a smaller load misses it, larger ones do not count: one lucky point is no capacity.
    """
    best = None
    for point in sorted(points, key=lambda point: point.at):
        if not point.good or point.good < wanted_attainment * point.sent:
            return best
        best = point
    return best


def kept_up(timelines: Sequence[Timeline]) -> float:
    """Time from the first to the last arrival over that between their first tokens, all runs together.

    1 where the engine serves requests as fast as they come; unlike finished requests per second
    it does not count how long the last ones take. Failed requests and those that arrive together
    say nothing; where that leaves nothing to go by, it is the share of requests that did not fail.
    """
    arriving = served = 0
    for timeline in timelines:
        scheds = [request.sched_ns for request in timeline.done]
        firsts = [request.token_times_ns[0] for request in timeline.done]
        if len(scheds) > 1:
            arriving += max(scheds) - min(scheds)
            served += max(firsts) - min(firsts)
    if arriving and served:
        return min(1.0, arriving / served)
    sent = sum(len(timeline.requests) for timeline in timelines)
    return sum(len(timeline.done) for timeline in timelines) / sent if sent else 1.0
