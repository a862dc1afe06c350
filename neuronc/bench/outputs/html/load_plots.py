"""Latency under load: against throughput with the SLO region, and against rate with the knee."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.html.figure import (
    BAD,
    GOOD,
    SERIES,
    Absent,
    Figure,
    Plot,
    axis,
    error_bars,
    hover,
    label,
    line_at,
)
from neuronc.bench.outputs.html.words import LATENCIES
from neuronc.bench.outputs.reading import (
    Document,
    Json,
    NamedRuns,
    named_runs,
    short,
    with_interval,
)

SHOWN = ("ttft_ms", "tpot_ms")
PANELS = ([0.56, 1.0], [0.0, 0.44])
NOTHING: Json = {"value": None, "low": None, "high": None}


def tradeoff_plot(document: Document) -> Plot:
    """TTFT and TPOT against output tokens per second."""
    title = "What throughput costs in latency"
    runs = [named for named in named_runs(document) if _value(named, "output_tokens_per_s")]
    names = _with_values(runs)
    if not names:
        return Absent(title=title, sentence="No mode with requests was run.")
    swept = any(named.mode == "sweep" for named in runs)
    slo = _slo(runs)
    region = " The green band is the objective; where even p99 is inside it, nearly all requests meet it."
    points = [
        trace for row, name in enumerate(names) for trace in _tradeoff(runs, name, row, swept)
    ]
    layout = _panels("output tokens per second", runs, names, slo)
    layout["xaxis"] |= {"rangemode": "tozero"}
    return Figure(
        id="tradeoff",
        title=title,
        sentence="Further right is more work done, further down is less waiting. Bars are 95 % "
        f"intervals over repeats.{region if slo else ''}",
        traces=points,
        layout=layout,
        height=100 + 230 * len(names),
    )


def load_plot(document: Document) -> Plot:
    """TTFT and TPOT against rate or concurrency, from p50 to p99."""
    sweep = document["modes"].get("sweep")
    title = "Where latency takes off: TTFT and TPOT against load"
    if sweep is None:
        return Absent(
            title=title,
            sentence="This needs several rates or concurrencies: run neuronc bench --mode sweep.",
        )
    runs = [named for named in named_runs(document) if named.mode == "sweep"]
    names = _with_values(runs)
    if not names:
        return Absent(title=title, sentence="No request of the sweep finished.")
    unit = {"rate": "requests arriving per second", "concurrency": "requests at a time"}
    layout = _panels(unit[sweep["by"]], runs, names, _slo(runs))
    layout["xaxis"] |= {"rangemode": "tozero"}
    _mark(layout, sweep)
    return Figure(
        id="load",
        title=title,
        sentence="The line is the median, the band reaches up to p99. Right of the knee, more "
        "load brings hardly more throughput, only longer queues. Best is the largest load that "
        "meets the objectives.",
        traces=[trace for row, name in enumerate(names) for trace in _band(runs, name, row)],
        layout=layout,
        height=100 + 230 * len(names),
    )


def _with_values(runs: Sequence[NamedRuns]) -> list[str]:
    return [name for name in SHOWN if any(_value(named, f"{name}.p50") for named in runs)]


def _tradeoff(runs: Sequence[NamedRuns], name: str, row: int, swept: bool) -> list[Json]:
    rates = [_estimate(named, "output_tokens_per_s") for named in runs]
    made = []
    for stat, symbol, dash in (("p50", "circle", "solid"), ("p99", "diamond-open", "dot")):
        points = [_estimate(named, f"{name}.{stat}") for named in runs]
        made.append(
            {
                "x": [rate["value"] for rate in rates],
                "y": [point["value"] for point in points],
                "error_x": error_bars(rates) if stat == "p50" else {"visible": False},
                "error_y": error_bars(points),
                "mode": "lines+markers+text" if swept else "markers+text",
                "text": [_tag(named) if stat == "p50" else "" for named in runs],
                "textposition": "bottom center",
                "line": {"color": SERIES[row], "width": 1.5, "dash": dash},
                "marker": {"color": SERIES[row], "size": 9, "symbol": symbol},
                "name": f"{LATENCIES[name].label}, {'median' if stat == 'p50' else stat}",
                "hoverinfo": "text",
                "hovertext": [_told(named, name, stat) for named in runs],
                "yaxis": "y" if row == 0 else "y2",
                "cliponaxis": False,
            }
        )
    return made


def _band(runs: Sequence[NamedRuns], name: str, row: int) -> list[Json]:
    color = SERIES[row]
    shared: Json = {
        "x": [named.at for named in runs],
        "hoverinfo": "text",
        "yaxis": "y" if row == 0 else "y2",
    }
    middle = [_estimate(named, f"{name}.p50") for named in runs]
    high = [_estimate(named, f"{name}.p99") for named in runs]
    return [
        shared
        | {
            "y": [point["value"] for point in middle],
            "error_y": error_bars(middle),
            "mode": "lines+markers",
            "line": {"color": color, "width": 2.5},
            "marker": {"size": 7},
            "name": f"{LATENCIES[name].label}, median",
            "hovertext": [_told(named, name, "p50") for named in runs],
        },
        shared
        | {
            "y": [point["value"] for point in high],
            "mode": "lines+markers",
            "line": {"color": color, "width": 1, "dash": "dot"},
            "marker": {"size": 6, "symbol": "diamond-open"},
            "fill": "tonexty",
            "fillcolor": color.replace(")", ", 0.15)"),
            "name": f"{LATENCIES[name].label}, p99",
            "hovertext": [_told(named, name, "p99") for named in runs],
        },
    ]


def _panels(
    x_title: str, runs: Sequence[NamedRuns], names: Sequence[str], slo: Mapping[str, float]
) -> Json:
    """A layout with one panel for each latency, over a common x axis."""
    layout: Json = {"shapes": [], "annotations": [], "legend": {"traceorder": "normal"}}
    layout["xaxis"] = {"title": {"text": x_title}, "anchor": "y2" if len(names) > 1 else "y"}
    for row, name in enumerate(names):
        values = [_value(named, f"{name}.{stat}") for named in runs for stat in ("p50", "p99")]
        values.append(slo.get(name))
        key = "" if row == 0 else "2"
        made = axis(f"{LATENCIES[name].label}, ms", values)
        layout[f"yaxis{key}"] = made | {"domain": PANELS[row] if len(names) > 1 else [0, 1]}
        if name in slo:
            layout["shapes"] += _region(slo[name], f"y{key}", logarithmic="range" in made)
            named_at = math.log10(slo[name]) if "range" in made else slo[name]
            layout["annotations"].append(_region_name(slo[name], f"y{key}", named_at))
    return layout


def _region(limit: float, y_axis: str, *, logarithmic: bool) -> list[Json]:
    bottom = limit / 1e4 if logarithmic else 0
    shape = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "yref": y_axis, "layer": "below"}
    fill = {"y0": bottom, "y1": limit, "fillcolor": "var(--good, 0.1)", "line": {"width": 0}}
    return [shape | fill, line_at(limit, color=GOOD, across="x", yref=y_axis)]


def _region_name(limit: float, y_axis: str, at: float) -> Json:
    place = {"xref": "paper", "x": 0.005, "xanchor": "left", "yref": y_axis, "yanchor": "bottom"}
    text: Json = {"text": f"objective {limit:g} ms", "showarrow": False, "font": {"color": GOOD}}
    text |= {"bgcolor": "var(--panel, 0.75)", "borderpad": 1}
    return place | {"y": at} | text


def _mark(layout: Json, sweep: Mapping[str, Any]) -> None:
    """Vertical lines at the knee and at the largest load that met the objectives."""
    for name, color, side in (("best", GOOD, "right"), ("knee", BAD, "left")):
        found = sweep[name]
        if found is None:
            continue
        layout["shapes"].append(line_at(found["at"], color=color))
        place = {"x": found["at"], "y": 0.5, "yref": "paper", "yanchor": "middle", "xanchor": side}
        told = {"text": f" {name}: {found['at']:g} ", "showarrow": False, "font": {"color": color}}
        layout["annotations"].append(place | told)


def _slo(runs: Sequence[NamedRuns]) -> dict[str, float]:
    found = [named.runs["slo"] for named in runs if named.runs["slo"]]
    return {name: found[0][name] for name in SHOWN if name in found[0]} if found else {}


def _estimate(named: NamedRuns, metric: str) -> Json:
    made: Json = named.runs["estimates"].get(metric, NOTHING)
    return made


def _value(named: NamedRuns, metric: str) -> float | None:
    value: float | None = _estimate(named, metric)["value"]
    return value


def _tag(named: NamedRuns) -> str:
    return named.label if named.at is None else f"{named.at:g}"


def _told(named: NamedRuns, name: str, stat: str) -> str:
    return hover(
        f"<b>{label(named.label)}</b>",
        f"{LATENCIES[name].label} {stat}: {with_interval(_estimate(named, f'{name}.{stat}'))} ms",
        f"{with_interval(_estimate(named, 'output_tokens_per_s'))} output tokens/s",
        f"{short(_value(named, 'requests_per_s'))} requests/s",
    )
