"""Step times: a histogram for each class, and every bucket on the roofline of the machine."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.html.figure import (
    QUIET,
    SERIES,
    Absent,
    Figure,
    Plot,
    class_colors,
    class_order,
    hover,
    label,
)
from neuronc.bench.outputs.reading import (
    Document,
    Json,
    NamedRuns,
    representative_runs,
    short,
    tail_of,
)

SHARE_FLOOR = 2e-4  # of the logarithmic axis of shares


def histograms(document: Document) -> list[Plot]:
    """A small plot for each step class, the modes over each other."""
    runs = representative_runs(document)
    names = class_order({name for named in runs for name in named.runs["steps"]})
    if not names:
        return [Absent(title="Step times", sentence="No mode with requests was run.")]
    return [_histogram(name, runs, f"steps-{index}") for index, name in enumerate(names)]


def _histogram(name: str, runs: Sequence[NamedRuns], figure_id: str) -> Plot:
    pairs = [(named, color) for named, color in zip(runs, SERIES, strict=False)]
    found = [(n, n.runs["steps"][name], color) for n, color in pairs if name in n.runs["steps"]]
    found = [(named, steps, color) for named, steps, color in found if steps["ms"]["n"]]
    if not found:
        return Absent(title=name, sentence="No step of this class ran.")
    low = min(steps["ms"]["min"] for _, steps, _ in found)
    high = max(steps["ms"]["max"] for _, steps, _ in found)
    pad = 0.04 * (high - low) or 0.1
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": "step time, ms"}, "nticks": 6}
        | {"range": [low - pad, high + pad]},
        "yaxis": _SHARES,
        "showlegend": len(found) > 1,
    }
    return Figure(
        id=figure_id,
        title=name,
        sentence="\n".join(_jitter(named, steps) for named, steps, _ in found),
        traces=[_bars(named.label, steps["ms"], color) for named, steps, color in found],
        layout=layout,
        height=250,
        small=True,
    )


_SHARES = {
    "title": {"text": "share of steps"},
    "type": "log",
    "tickvals": [0.001, 0.01, 0.1, 1],
    "ticktext": ["0.1 %", "1 %", "10 %", "100 %"],
    "range": [-3.7, 0.1],
}


def _bars(name: str, spread: Mapping[str, Any], color: str) -> Json:
    edges, counts = spread["histogram"]["edges"], spread["histogram"]["counts"]
    kept = [(a, b, count) for a, b, count in zip(edges, edges[1:], counts, strict=False) if count]
    return {
        "type": "bar",
        "x": [(a + b) / 2 for a, b, _ in kept],
        "width": [b - a for a, b, _ in kept],
        "base": SHARE_FLOOR,
        "y": [count / spread["n"] - SHARE_FLOOR for *_, count in kept],
        "marker": {"color": color.replace(")", ", 0.55)"), "line": {"color": color, "width": 1}},
        "name": name,
        "hoverinfo": "text",
        "hovertext": [
            hover(f"<b>{label(name)}</b>", f"{a:.3g} to {b:.3g} ms: {count} of {spread['n']} steps")
            for a, b, count in kept
        ],
        "textposition": "none",
    }


def _jitter(named: NamedRuns, steps: Mapping[str, Any]) -> str:
    middle = short(steps["ms"]["percentiles"]["p50"]["value"])
    name, tail = tail_of(steps)
    ratio = "" if tail is None else f", {name} is {tail:.2f} times it"
    return f"{named.label}: median {middle} ms{ratio}; {steps['count']:,} steps"


def roofline_plot(document: Document) -> Plot:
    """FLOP/s of each cell against its intensity, under what the machine can do."""
    title = "How close each program comes to what the machine can do (roofline)"
    steps = document["modes"].get("steps")
    if steps is None:
        return Absent(
            title=title, sentence="This needs the steps mode: neuronc bench --mode steps."
        )
    cells = [cell for cell in steps["cells"] if _placed(cell)]
    if not cells:
        reason = "The bytes and operations of the programs are not known, so there is no point."
        return Absent(title=title, sentence=reason)
    roof = _roof(document, cells)
    return Figure(
        id="roofline",
        title=title,
        sentence="A point is a program; the roof is the machine. Left of the bend, memory sets "
        "the pace, right of it, arithmetic. The closer to the roof, the less there is to gain."
        f" {_roof_in_words(document)}",
        traces=[*roof, *_points(cells, class_colors(document))],
        layout={
            "xaxis": {"title": {"text": "operations per byte read, FLOP/B"}, "type": "log"}
            | {"dtick": 1},
            "yaxis": {"title": {"text": "operations per second, GFLOP/s"}, "type": "log"}
            | {"dtick": 1},
        },
        height=440,
    )


def _placed(cell: Mapping[str, Any]) -> bool:
    return bool(cell["bytes"] and cell["flops"] and cell["ms"]["mean"])


def _intensity(cell: Mapping[str, Any]) -> float:
    """Of what the program executes, padding included, as its height in the plot."""
    return float(cell["flops"] / cell["bytes"])


def _peaks(document: Document) -> tuple[float, float, str] | None:
    """Bytes and operations per second, and of which dtype: its own, else that of the fastest."""
    machine, dtype = document["machine"], document["fingerprint"]["dtype"]
    if machine is None or not machine["flops_per_s"]:
        return None
    peaks = machine["flops_per_s"]
    shown = dtype if dtype in peaks else max(peaks, key=lambda name: float(peaks[name]))
    return machine["read_bytes_per_s"], peaks[shown], shown


def _roof_in_words(document: Document) -> str:
    peaks = _peaks(document)
    if peaks is None:
        return "The machine was not measured, so there is no roof."
    read, peak, dtype = peaks
    source = document["machine"]["source"]
    return f"The roof: {read / 1e9:.3g} GB/s and {peak / 1e9:,.4g} GFLOP/s in {dtype} ({source})."


def _roof(document: Document, cells: Sequence[Mapping[str, Any]]) -> list[Json]:
    peaks = _peaks(document)
    if peaks is None:
        return []
    read, peak, _ = peaks
    bend = peak / read
    low = min(bend, *map(_intensity, cells)) / 2
    high = max(bend, *map(_intensity, cells)) * 2
    return [
        {
            "x": [low, bend, high],
            "y": [low * read / 1e9, peak / 1e9, peak / 1e9],
            "mode": "lines",
            "line": {"color": QUIET, "width": 2.5},
            "name": "roof",
            "hoverinfo": "name",
        }
    ]


def _points(cells: Sequence[Mapping[str, Any]], colors: Mapping[str, str]) -> Iterator[Json]:
    for name in class_order({cell["class"] for cell in cells}):
        mine = [cell for cell in cells if cell["class"] == name]
        yield {
            "x": [_intensity(cell) for cell in mine],
            "y": [cell["flops"] / cell["ms"]["mean"] / 1e6 for cell in mine],
            "mode": "markers",
            "marker": {
                "color": colors.get(name, QUIET),
                "size": 11,
                "symbol": "square" if name.startswith("prefill") else "circle",
                "line": {"color": "var(--panel)", "width": 1},
            },
            "name": name,
            "hoverinfo": "text",
            "hovertext": [_told(cell) for cell in mine],
        }


def _told(cell: Mapping[str, Any]) -> str:
    used = [
        f"{100 * cell[key]:.0f} % of the {what}"
        for key, what in (("mbu", "memory bandwidth"), ("mfu", "arithmetic peak"))
        if cell[key] is not None
    ]
    floor = [] if cell["floor_ms"] is None else [f"lower bound {short(cell['floor_ms'])} ms"]
    return hover(
        f"<b>{cell['class']}</b>, {cell['active_slots']} slots, context {cell['context']}",
        f"{short(cell['ms']['mean'])} ms, {short(cell['tokens_per_s'])} tokens/s",
        *floor,
        *used,
    )
