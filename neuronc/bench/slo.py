"""What people promise about latency, and how often a run kept it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.bench import metrics
from neuronc.bench.statistics.estimate import wilson
from neuronc.bench.timeline import RequestRecord, Timeline
from neuronc.errors import UsageError

_UNITS_MS = {"": 1.0, "ms": 1.0, "s": 1000.0}
_NAMES = ("ttft", "tpot", "itl", "e2e")
DEFAULT_ATTAINMENT = 0.99
"""The share of requests that has to be good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slo:
    """Bounds in ms; None where there is none.

    A request is good if it ended and keeps every bound: ``itl_ms`` by its longest gap. One token
    has no tpot and no gap, so it keeps those bounds.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    itl_ms: float | None = None
    e2e_ms: float | None = None
    attainment: float = DEFAULT_ATTAINMENT

    def bounds(self) -> dict[str, float]:
        """The bounds there are, by metric."""
        found = {f"{name}_ms": getattr(self, f"{name}_ms") for name in _NAMES}
        return {name: bound for name, bound in found.items() if bound is not None}


def parse_slo(text: str, attainment: float = DEFAULT_ATTAINMENT) -> Slo:
    """The bounds of ``ttft=500ms,tpot=50ms,e2e=2s``; a bare number is in ms.

    Raises:
        UsageError: another form, a name or unit that is not known, or one given twice.
    """
    bounds: dict[str, float] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z0-9]+)\s*=\s*([0-9.]+)\s*(ms|s|)\s*", part)
        name = match[1] if match else ""
        if match is None or name not in _NAMES or f"{name}_ms" in bounds or not _number(match[2]):
            message = f"--slo has {part.strip()!r}; expected {', '.join(_NAMES)} = TIME, once each"
            raise UsageError(message, hint="for example --slo ttft=500ms,tpot=50ms")
        bounds[f"{name}_ms"] = float(match[2]) * _UNITS_MS[match[3]]
    if not 0 < attainment <= 1:
        message = f"--attainment is {attainment}; it is a share of requests, above 0 and at most 1"
        raise UsageError(message, hint="for example --attainment 0.99")
    return Slo(**bounds, attainment=attainment)


def _number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class SloResult:
    """How a run kept an `Slo`.

    Attributes:
        sent: Requests that were to be made, failed ones too.
        good: Those that kept every bound.
        good_by_metric: Those that kept each bound alone.
        deadlines: Tokens that had a deadline (see `fluidity`).
        deadlines_met: Those in time.
    """

    sent: int
    good: int
    good_by_metric: Mapping[str, int]
    deadlines: int
    deadlines_met: int

    def __add__(self, other: "SloResult") -> "SloResult":
        return SloResult(
            sent=self.sent + other.sent,
            good=self.good + other.good,
            good_by_metric={
                name: count + other.good_by_metric[name]
                for name, count in self.good_by_metric.items()
            },
            deadlines=self.deadlines + other.deadlines,
            deadlines_met=self.deadlines_met + other.deadlines_met,
        )

    @property
    def fluidity(self) -> float | None:
        """Share of token deadlines met; None where the bounds set none."""
        return self.deadlines_met / self.deadlines if self.deadlines else None


def judge(timeline: Timeline, slo: Slo) -> SloResult:
    """Count the requests of ``timeline`` that kept ``slo``; failed ones kept nothing."""
    bounds = slo.bounds()
    kept = [_kept(request, bounds) for request in timeline.requests]
    met = [_deadlines_met(request, slo) for request in timeline.requests]
    return SloResult(
        sent=len(timeline.requests),
        good=sum(all(bools.values()) for bools in kept),
        good_by_metric={name: sum(bools[name] for bools in kept) for name in bounds},
        deadlines=sum(total for _, total in met),
        deadlines_met=sum(count for count, _ in met),
    )


def _kept(request: RequestRecord, bounds: Mapping[str, float]) -> dict[str, bool]:
    if not request.is_done:
        return dict.fromkeys(bounds, False)
    found = {
        "ttft_ms": metrics.ttft_ms(request),
        "tpot_ms": metrics.tpot_ms(request),
        "itl_ms": max(metrics.itl_ms(request), default=None),
        "e2e_ms": metrics.e2e_ms(request),
    }
    return {name: (found[name] or 0.0) <= bound for name, bound in bounds.items()}


def _deadlines_met(request: RequestRecord, slo: Slo) -> tuple[int, int]:
    """Tokens in time, and tokens: the first is due at ttft, the next tpot after the one before.

    A token that comes early leaves its slack to the next; a miss sets the next deadline from the
    late token (fluidity-index of Etalon, arXiv 2407.07000). Tokens after a stop token were never
    due; those that a failed request did not get were missed.
    """
    if slo.ttft_ms is None or slo.tpot_ms is None:
        return 0, 0
    met, due_ns = 0.0, request.sched_ns + slo.ttft_ms * metrics.NS_PER_MS
    for time_ns in request.token_times_ns:
        is_met = time_ns <= due_ns
        met += is_met
        due_ns = (due_ns if is_met else time_ns) + slo.tpot_ms * metrics.NS_PER_MS
    return int(met), len(request.token_times_ns) if request.is_done else request.new_tokens


def goodput_requests_per_s(timeline: Timeline, result: SloResult) -> float | None:
    """Requests that kept every bound / duration."""
    elapsed_s = metrics.duration_s(timeline)
    return None if elapsed_s is None or math.isclose(elapsed_s, 0) else result.good / elapsed_s


def to_dict(slo: Slo, result: SloResult) -> dict[str, Any]:
    """JSON form: the bounds, then joint and marginal attainment with Wilson intervals."""
    return {
        **slo.bounds(),
        "wanted_attainment": slo.attainment,
        "joint": wilson(result.good, result.sent).to_dict(),
        "marginal": {
            name: wilson(good, result.sent).to_dict()
            for name, good in result.good_by_metric.items()
        },
        "fluidity": result.fluidity,
    }
