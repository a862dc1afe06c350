"""What every output asks of a benchmark document: its runs, its verdict, and numbers as text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Document = Mapping[str, Any]
Labelled = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Which run a Timeline is of, and the Timeline."""

RUN_MODES = ("latency", "throughput", "serve")
NS_PER_MS = 1e6
DASH = "–"  # noqa: RUF001  an en dash, as ranges are set
NOT_DEFINED = "not defined"


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedRuns:
    """A RunSet with its place in the document.

    Attributes:
        mode: ``latency``, ``throughput``, ``serve`` or ``sweep``.
        at: The rate or concurrency of a point of a sweep, else None.
        label: What people call it, as ``serve`` or ``sweep, rate 2``.
    """

    mode: str
    at: float | None
    label: str
    runs: Json


def named_runs(document: Document) -> Iterator[NamedRuns]:
    """Every RunSet of the document, points of a sweep in order."""
    modes = document["modes"]
    for mode in RUN_MODES:
        if mode in modes:
            yield NamedRuns(mode=mode, at=None, label=mode, runs=modes[mode])
    for point in modes.get("sweep", {}).get("points", ()):
        label = f"sweep, {modes['sweep']['by']} {point['at']:g}"
        yield NamedRuns(mode="sweep", at=point["at"], label=label, runs=point["runs"])


def representative_runs(document: Document) -> tuple[NamedRuns, ...]:
    """Every RunSet, but of a sweep one point: the best, else the knee, else the last."""
    runs = tuple(named_runs(document))
    sweep = document["modes"].get("sweep")
    if sweep is None:
        return runs
    chosen = (sweep["best"] or sweep["knee"] or sweep["points"][-1])["at"]
    points = [made for made in runs if made.mode == "sweep"]
    nearest = min(points, key=lambda made: abs((made.at or 0.0) - chosen))
    return (*(made for made in runs if made.mode != "sweep"), nearest)


def labelled_timelines(
    document: Document, timelines: Iterable[Labelled] | None
) -> Iterable[Labelled]:
    """``timelines``, or else the document's own, which has no labels."""
    if timelines is not None:
        return timelines
    return [] if document["timeline"] is None else [({}, document["timeline"])]


def is_invalid(document: Document) -> bool:
    """Whether no number of the run may be quoted."""
    return bool(document["status"] == "invalid")


def verdict(document: Document) -> str | None:
    """Why the numbers are no numbers, or are doubtful; None if nothing speaks against them."""
    if is_invalid(document):
        found = "; ".join(document["validation"]["problems"])
        return f"INVALID RUN, no number of it may be quoted: {found}"
    if document["status"] == "noisy":
        return f"NOISY RUN, its numbers may not repeat: {'; '.join(document['noise']['findings'])}"
    return None


def short(number: float | None, *, absent: str = NOT_DEFINED) -> str:
    """Three or more significant digits, thousands apart; ``absent`` for None."""
    if number is None:
        return absent
    size = abs(number)
    if not size:
        return "0"
    if size < 0.01:
        return f"{number:.2g}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 1 else 3
    return f"{number:,.{decimals}f}"


def with_interval(estimate: Mapping[str, Any], *, scale: float = 1.0) -> str:
    """``value (low-high)``; without an interval the value alone."""
    value, low, high = (
        None if estimate[key] is None else scale * estimate[key] for key in ("value", "low", "high")
    )
    if value is None or low is None or high is None:
        return short(value)
    return f"{short(value)} ({short(low)}{DASH}{short(high)})"


def step_ms(step: Mapping[str, Any]) -> float:
    """How long a step of a Timeline took."""
    return float(step["end_ns"] - step["start_ns"]) / NS_PER_MS


def tail_of(steps: Mapping[str, Any]) -> tuple[str, float | None]:
    """p99.9 over the median; of too few steps to know it, the slowest over the median."""
    spread = steps["ms"]
    middle, tail = (spread["percentiles"][stat] for stat in ("p50", "p99_9"))
    if tail["low"] is not None or tail["high"] is not None:
        return "p99.9", steps["jitter"]["p99_9_over_p50"]
    known = middle["value"] and spread["max"] is not None
    return "the slowest", spread["max"] / middle["value"] if known else None


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write lines as they come, each ended; ``path`` appears only once complete."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
