"""How much of a core's time a thread that asks for all of it gets."""

import time
from dataclasses import asdict, dataclass

SPIN_S = 0.2
LOST_ABOVE_NS = 20_000  # a timer interrupt costs a few microseconds; a switch to others costs more
_KEPT_ABOVE_NS = 1_000  # reading the clock in a loop takes about a tenth


@dataclass(frozen=True, kw_only=True, slots=True)
class SpinJitter:
    """A loop that reads the clock without pause, and the gaps between its readings.

    Attributes:
        duration_ms: Of the loop.
        max_gap_ms: Longest time between two readings.
        p99_9_gap_ms: Of all gaps; 0.001 where it is less.
        lost_share: Time in gaps longer than `LOST_ABOVE_NS` over all time.
        resolution_ns: Smallest step of the clock that was seen.
    """

    duration_ms: float
    max_gap_ms: float
    p99_9_gap_ms: float
    lost_share: float
    resolution_ns: int

    def to_dict(self) -> dict[str, float | int]:
        """The same by name."""
        return asdict(self)


def measure_spin_jitter(spin_s: float = SPIN_S) -> SpinJitter:
    """Spin for ``spin_s`` seconds. No other thread of this process should run: it would be a gap."""
    now = time.perf_counter_ns
    gaps: list[int] = []
    begin = before = now()
    end, count, smallest = begin + int(spin_s * 1e9), 0, 1 << 62
    while before < end:
        after = now()
        gap = after - before
        if gap >= _KEPT_ABOVE_NS:
            gaps.append(gap)
        if 0 < gap < smallest:
            smallest = gap
        before = after
        count += 1
    return summarise_gaps(gaps, count=count, duration_ns=before - begin, smallest_ns=smallest)


def summarise_gaps(
    gaps_ns: list[int], *, count: int, duration_ns: int, smallest_ns: int
) -> SpinJitter:
    """From the gaps of a microsecond or more among ``count`` of them."""
    ordered = sorted(gaps_ns, reverse=True)
    rank = count // 1000  # so many are larger than p99.9
    p99_9 = ordered[rank] if rank < len(ordered) else _KEPT_ABOVE_NS
    return SpinJitter(
        duration_ms=duration_ns / 1e6,
        max_gap_ms=(ordered[0] if ordered else smallest_ns) / 1e6,
        p99_9_gap_ms=p99_9 / 1e6,
        lost_share=sum(gap for gap in ordered if gap > LOST_ABOVE_NS) / max(duration_ns, 1),
        resolution_ns=smallest_ns,
    )
