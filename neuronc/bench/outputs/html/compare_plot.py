"""Two documents side by side: ratios of their metrics with intervals, and what else differs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance
from typing import Any

from neuronc.bench.outputs.html.figure import BAD, GOOD, QUIET, Absent, Figure, Plot, hover, label
from neuronc.bench.outputs.html.words import abbreviation, words_of
from neuronc.bench.outputs.reading import Document, Json, NamedRuns, named_runs
from neuronc.bench.statistics.quantiles import student_t_quantile

METRICS = (
    "output_tokens_per_s",
    "goodput_requests_per_s",
    "ttft_ms.p50",
    "ttft_ms.p99",
    "tpot_ms.p50",
    "itl_ms.p99",
    "e2e_ms.p50",
)
CONFIDENCE = 0.95
TITLE = "What changed against the other run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """This run over the other in one metric.

    Attributes:
        low: Of the interval; None with the reason where the repeats are too few.
        more_is_better: None where neither direction is good in itself.
    """

    name: str
    ratio: float
    low: float | None
    high: float | None
    more_is_better: bool | None
    reason: str = ""


def log_ratios(document: Document, other: Document) -> tuple[Ratio, ...]:
    """Ratios of geometric means over repeats, with Welch intervals on the logarithm."""
    theirs = {named.label: named for named in named_runs(other)}
    pairs = [(n, theirs[n.label]) for n in named_runs(document) if n.label in theirs]
    made = (_ratio(a, b, metric) for a, b in pairs for metric in METRICS)
    return tuple(ratio for ratio in made if ratio is not None)


def _ratio(mine: NamedRuns, other: NamedRuns, metric: str) -> Ratio | None:
    logs, other_logs = _logs(mine, metric), _logs(other, metric)
    if not logs or not other_logs:
        return None
    words, difference = words_of(metric), fmean(logs) - fmean(other_logs)
    half = _half_width(logs, other_logs)
    return Ratio(
        name=f"{mine.label}: {abbreviation(metric)}",
        ratio=math.exp(difference),
        low=None if half is None else math.exp(difference - half),
        high=None if half is None else math.exp(difference + half),
        more_is_better=words.more_is_better,
        reason="an interval needs two repeats on each side" if half is None else "",
    )


def _logs(named: NamedRuns, metric: str) -> list[float]:
    values = (run["metrics"].get(metric) for run in named.runs["repeats"])
    return [math.log(value) for value in values if value is not None and value > 0]


def _half_width(logs: Sequence[float], other: Sequence[float]) -> float | None:
    if len(logs) < 2 or len(other) < 2:
        return None
    a, b = variance(logs) / len(logs), variance(other) / len(other)
    if a + b == 0:
        return 0.0
    freedom: float = (a + b) ** 2 / (a**2 / (len(logs) - 1) + b**2 / (len(other) - 1))
    return student_t_quantile((1 + CONFIDENCE) / 2, freedom) * math.sqrt(a + b)


def forest_plot(ratios: Sequence[Ratio]) -> Plot:
    """A row per metric: change in percent with its interval, coloured only where it is clear."""
    if not ratios:
        reason = "The two runs have no mode in common, so there is nothing to set side by side."
        return Absent(title=TITLE, sentence=reason)
    rows = list(reversed(ratios))
    groups = {"better": GOOD, "worse": BAD, "no clear change": QUIET}
    traces = [_rows(rows, name, color) for name, color in groups.items()]
    names = [label(ratio.name) for ratio in rows]
    reach = _reach(rows)
    return Figure(
        id="forest",
        title=TITLE,
        sentence="A point is this run over the other one; its bar is the 95 % interval from the "
        "repeats. Where a bar crosses 0 %, the repeats cannot tell the two runs apart. A bar that "
        "leaves the plot is longer than it.",
        traces=[trace for trace in traces if trace["x"]],
        layout={
            "xaxis": {"title": {"text": "change, % of the other run"}, "tickformat": "+~g"}
            | {"range": [-reach, reach], "nticks": 5, "tickangle": 0}
            | {"zeroline": True, "zerolinewidth": 2, "zerolinecolor": QUIET},
            "yaxis": {
                "tickvals": list(range(len(rows))),
                "ticktext": names,
                "range": [-0.6, len(rows) - 0.4],
                "zeroline": False,
            },
        },
        height=130 + 30 * len(rows),
    )


def _reach(rows: Sequence[Ratio]) -> float:
    """How far the axis goes: to every point, but not to the end of one very long bar."""
    changes = [abs(row.ratio - 1) for row in rows]
    ends = [max(abs((row.low or 1) - 1), abs((row.high or 1) - 1)) for row in rows]
    return 100 * max(0.02, 1.15 * max(changes), 1.5 * median(ends))


def outcome(ratio: Ratio) -> str:
    """Whether the interval says better or worse."""
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return "no clear change"
    if ratio.more_is_better is None:
        return "no clear change"
    return "better" if (ratio.low > 1) == ratio.more_is_better else "worse"


def _rows(rows: Sequence[Ratio], name: str, color: str) -> Json:
    mine = [(index, row) for index, row in enumerate(rows) if outcome(row) == name]
    changes = [100 * (row.ratio - 1) for _, row in mine]
    return {
        "x": changes,
        "y": [index for index, _ in mine],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [100 * ((row.high or row.ratio) - row.ratio) for _, row in mine],
            "arrayminus": [100 * (row.ratio - (row.low or row.ratio)) for _, row in mine],
            "thickness": 2,
            "width": 5,
        },
        "mode": "markers",
        "marker": {"color": color, "size": 10},
        "name": name,
        "hoverinfo": "text",
        "hovertext": [_told(row) for _, row in mine],
    }


def _told(row: Ratio) -> str:
    first = f"<b>{label(row.name)}</b>: {100 * (row.ratio - 1):+.2f} %"
    if row.low is None or row.high is None:
        return hover(first, label(row.reason))
    return hover(first, f"{100 * (row.low - 1):+.2f} to {100 * (row.high - 1):+.2f} %")


def differences(document: Document, other: Document) -> list[tuple[str, str, str]]:
    """Settings that are not the same: name, here, there."""
    mine, theirs = (dict(_settings(made)) for made in (document, other))
    names = dict.fromkeys((*mine, *theirs))
    pairs = ((name, mine.get(name, "absent"), theirs.get(name, "absent")) for name in names)
    return [(name, here, there) for name, here, there in pairs if here != there]


def _settings(document: Document) -> Iterator[tuple[str, str]]:
    for part in ("fingerprint", "workload", "environment"):
        yield from _flat(part, document[part])
    yield "status", str(document["status"])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, "not known" if value is None else str(value)
