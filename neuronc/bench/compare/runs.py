"""What a comparison looks at: the numbers of whole runs, one after another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from neuronc.bench.compare.names import MODES, Mode
from neuronc.bench.compare.sweeps import loads_of, points_of


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTotals:
    """The steps of one class in one run."""

    count: float
    total_ms: float

    @property
    def mean_ms(self) -> float:
        """Of one step."""
        return self.total_ms / self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One repeat of a mode: the unit that the statistics are about.

    Attributes:
        at: The load of a sweep; None for its repeats as a whole, and in other modes.
        metrics: By full name; None where undefined.
        steps: By class, such as ``decode/256``; classes without a step are not in it.
        open_loop: Whether arrivals came by the clock, so that the duration says nothing.
    """

    mode: Mode
    at: float | None = None
    duration_s: float | None
    num_requests: int
    num_failed: int = 0
    metrics: Mapping[str, float | None]
    steps: Mapping[str, StepTotals] = field(default_factory=dict)
    open_loop: bool = False


def runs_of(document: Mapping[str, Any]) -> tuple[Run, ...]:
    """All runs of a ``neuronc.bench/1`` document, by mode and in the order they were made.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: It is not such a document.
    """
    return tuple(_runs(document["modes"]))


def _runs(modes: Mapping[str, Any]) -> Iterator[Run]:
    for mode in MODES:
        if mode != "sweep" and modes.get(mode) is not None:
            yield from _repeats(mode, modes[mode])
    for at, runs in points_of(modes).items():
        yield from _repeats("sweep", runs, at)
    for loads in loads_of(modes):
        metrics = {name: _number(value) for name, value in loads.items()}
        yield Run(mode="sweep", duration_s=None, num_requests=0, metrics=metrics)


def _repeats(mode: Mode, runs: Mapping[str, Any], at: float | None = None) -> Iterator[Run]:
    open_loop = runs.get("rate") is not None
    for repeat in runs["repeats"]:
        yield _run(mode, repeat, at, open_loop=open_loop)


def _run(mode: Mode, found: Mapping[str, Any], at: float | None, *, open_loop: bool) -> Run:
    steps = {name: _step_totals(entry) for name, entry in found.get("steps", {}).items()}
    return Run(
        mode=mode,
        at=at,
        duration_s=_number(found.get("duration_s")),
        num_requests=int(found["num_requests"]),
        num_failed=int(found.get("num_failed") or 0),
        metrics={name: _number(value) for name, value in found["metrics"].items()},
        steps={name: totals for name, totals in steps.items() if totals is not None},
        open_loop=open_loop,
    )


def _step_totals(entry: Mapping[str, Any]) -> StepTotals | None:
    count, total_ms = _number(entry["count"]), _number(entry["total_ms"])
    if not count or total_ms is None:
        return None
    return StepTotals(count=count, total_ms=total_ms)


def _number(value: object) -> float | None:
    """``value``, where it is a finite number or null; `TypeError` for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{value!r} is no number"
        raise TypeError(message)
    return float(value) if isfinite(value) else None
