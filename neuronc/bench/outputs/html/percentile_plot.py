"""Latency percentiles on an axis of nines, where the tail has as much room as the middle."""

import math
from collections.abc import Mapping
from typing import Any

from neuronc.bench.outputs.html.figure import (
    SERIES,
    Absent,
    Figure,
    Plot,
    axis,
    error_bars,
    hover,
    label,
)
from neuronc.bench.outputs.html.words import LATENCIES, STATS
from neuronc.bench.outputs.reading import Document, Json, NamedRuns, representative_runs, short

SHOWN = ("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
TICKS = (0.5, 0.9, 0.99, 0.999, 0.9999)


def percentile_plots(document: Document) -> list[Plot]:
    """One plot for each mode that ran."""
    runs = representative_runs(document)
    if not runs:
        return [Absent(title="Latency percentiles", sentence="No mode with requests was run.")]
    return [_plot(named, f"percentiles-{index}") for index, named in enumerate(runs)]


def _plot(named: NamedRuns, figure_id: str) -> Plot:
    title = f"How slow the slow ones are: latency percentiles ({named.label})"
    traces = []
    for name, color in zip(SHOWN, SERIES, strict=False):
        spread = named.runs["pooled"].get(name)
        if spread is not None and spread["n"] > 0:
            traces += _curve(name, spread, color)
    if not traces:
        return Absent(title=title, sentence="No request finished, so there is no latency to show.")
    end = max((max(trace["x"]) for trace in traces), default=2.0)
    ticks = [q for q in TICKS if nines(q) <= max(end, 2.0) + 0.01]
    layout = {
        "xaxis": {
            "title": {"text": "percentile of all requests (of all gaps for ITL)"},
            "tickvals": [nines(q) for q in ticks],
            "ticktext": [f"p{100 * q:g}" for q in ticks],
            "tickangle": 0,
            "range": [-0.03, max(end, 2.0) + 0.08],
        },
        "yaxis": axis("latency, ms", [value for trace in traces for value in trace["y"]]),
    }
    return Figure(
        id=figure_id,
        title=title,
        sentence="Read up from a percentile: that share of requests was at least as fast. A flat "
        "curve is a predictable machine. Bars are 95 % intervals; from where a line is dotted, "
        "there are too few samples for an interval.",
        traces=traces,
        layout=layout,
        height=420,
    )


def nines(quantile: float) -> float:
    """0.9 is 1, 0.99 is 2: the number of nines."""
    return -math.log10(1 - quantile)


def _curve(name: str, spread: Mapping[str, Any], color: str) -> list[Json]:
    words, points = LATENCIES[name], spread["percentiles"]
    known = [q for stat, q in QUANTILES.items() if points[stat]["low"] is not None]
    sure = max((q for q in known), default=0.0)
    curve = [(q, value) for q, value in spread["curve"] if q < 1]
    parts = (
        ([p for p in curve if p[0] <= sure], "solid"),
        ([p for p in curve if p[0] >= sure], "dot"),
    )
    lines = [_line(part, words.label, color, dash) for part, dash in parts if len(part) > 1]
    return [*lines, _markers(words.label, points, color)]


def _line(part: list[tuple[float, float]], name: str, color: str, dash: str) -> Json:
    return {
        "x": [nines(q) for q, _ in part],
        "y": [value for _, value in part],
        "mode": "lines",
        "line": {"color": color, "width": 2, "dash": dash},
        "legendgroup": name,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _markers(name: str, points: Mapping[str, Any], color: str) -> Json:
    shown = [stat for stat in QUANTILES if points[stat]["value"] is not None]
    made = [points[stat] for stat in shown]
    sure = [point["low"] is not None and point["high"] is not None for point in made]
    return {
        "x": [nines(QUANTILES[stat]) for stat in shown],
        "y": [point["value"] for point in made],
        "error_y": error_bars(made),
        "mode": "lines+markers",
        "line": {"width": 0},
        "marker": {
            "color": color,
            "size": 8,
            "symbol": ["circle" if s else "circle-open" for s in sure],
        },
        "name": name,
        "legendgroup": name,
        "hoverinfo": "text",
        "hovertext": [_told(name, stat, points[stat]) for stat in shown],
    }


def _told(name: str, stat: str, point: Mapping[str, Any]) -> str:
    first = f"{name}, {STATS[stat]}: <b>{short(point['value'])} ms</b>"
    if point["low"] is None or point["high"] is None:
        return hover(first, f"no interval: {label(point['reason'])}")
    return hover(first, f"95 % interval {short(point['low'])} to {short(point['high'])} ms")
