"""The part of a run between filling up and draining."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

RATIO = 0.8  # of the peak concurrency
MIN_SHARE = 0.3  # of the run
MIN_REQUESTS_LONG = 10.0  # mean times in flight
BRIDGE = 0.01  # of the mean time in flight: between a request's end and the next one's start

Interval = tuple[int, int]
"""Start and end in ns of one clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Steady:
    """The steady window.

    Attributes:
        window: Start and end in ns; None if no part of the run qualifies.
        peak: Largest number of requests in flight.
        reason: Why there is no window.
    """

    window: Interval | None
    peak: int
    reason: str | None


def find_steady(intervals: Sequence[Interval], *, ratio: float = RATIO) -> Steady:
    """The longest time with at least ``ratio`` times the peak of ``intervals`` in flight.

    ``intervals`` are of one request each: when it had a slot, for the window in which the slots
    were full; when it was in the system, for an open loop. A dip of less than `BRIDGE` of the mean
    interval does not end the window: a closed loop has one whenever a request follows another.

    Refused (harness.md 6.3, 7) when shorter than `MIN_SHARE` of the run or `MIN_REQUESTS_LONG`
    times the mean interval.
    """
    kept = [interval for interval in intervals if interval[1] > interval[0]]
    if not kept:
        return Steady(window=None, peak=0, reason="no request was in flight for any time")
    mean_ns = sum(end - start for start, end in kept) / len(kept)
    run_ns = max(end for _, end in kept) - min(start for start, _ in kept)
    levels = _levels(kept)
    peak = max(level for _, level in levels)
    full = _full(levels, ratio * peak, BRIDGE * mean_ns)
    start, end = max(full, key=lambda interval: interval[1] - interval[0])
    reason = _too_short(end - start, run_ns, mean_ns, peak)
    return Steady(window=None if reason else (start, end), peak=peak, reason=reason)


def tokens_inside(token_times_ns: Iterable[Sequence[int]], window: Interval) -> int:
    """Tokens of all requests, each a sequence of ascending times, in ``start <= t < end``."""
    start, end = window
    return sum(bisect_left(times, end) - bisect_left(times, start) for times in token_times_ns)


def _levels(intervals: Sequence[Interval]) -> list[tuple[int, int]]:
    """(time, requests in flight from then on), ascending; a start and an end at once cancel."""
    changes: dict[int, int] = {}
    for start, end in intervals:
        changes[start] = changes.get(start, 0) + 1
        changes[end] = changes.get(end, 0) - 1
    level, levels = 0, []
    for time_ns in sorted(changes):
        level += changes[time_ns]
        levels.append((time_ns, level))
    return levels


def _full(levels: list[tuple[int, int]], least: float, bridge_ns: float) -> list[Interval]:
    """Times with ``least`` or more in flight; those closer than ``bridge_ns`` are one."""
    full: list[Interval] = []
    for (start, level), (end, _) in pairwise(levels):
        if level < least:
            continue
        if full and start - full[-1][1] <= bridge_ns:
            full[-1] = (full[-1][0], end)
        else:
            full.append((start, end))
    return full


def _too_short(length_ns: int, run_ns: int, mean_ns: float, peak: int) -> str | None:
    if length_ns < MIN_SHARE * run_ns:
        return (
            f"the longest time near peak concurrency ({peak}) is {length_ns / run_ns:.0%} of the "
            f"run, less than {MIN_SHARE:.0%}; try a longer run"
        )
    if length_ns < MIN_REQUESTS_LONG * mean_ns:
        return (
            f"the longest time near peak concurrency ({peak}) is {length_ns / mean_ns:.1f} times a "
            f"request's mean, less than {MIN_REQUESTS_LONG:g}; try about "
            f"{int((MIN_REQUESTS_LONG + 2) * peak)} requests or more"
        )
    return None
