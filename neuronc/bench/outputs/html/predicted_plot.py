"""What the roofline says a program takes at best, and what it took."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.html.figure import (
    GOOD,
    QUIET,
    Absent,
    Figure,
    Plot,
    error_bars,
    hover,
    label,
)
from neuronc.bench.outputs.reading import Document, Json, short

TITLE = "Predicted and measured time of each program"


def predicted_plot(document: Document) -> Plot:
    """A row for each cell of the steps mode: the prediction as a bar, the median as a point."""
    steps = document["modes"].get("steps", {"cells": ()})
    cells = [
        cell
        for cell in steps["cells"]
        if cell["floor_ms"] and cell["ms"]["percentiles"]["p50"]["value"]
    ]
    if not cells:
        return Absent(
            title=TITLE,
            sentence="This needs the steps mode on a machine whose peaks are known.",
        )
    rows = list(reversed(cells))
    return Figure(
        id="predicted",
        title=TITLE,
        sentence=f"The bar is what the roof allows at best ({document['machine']['source']} peaks),"
        " the point what was measured. The further right of its bar, the more there is to gain.",
        traces=[_bars(rows), _points(rows)],
        layout={
            "xaxis": {"title": {"text": "time of a call, ms"}, "rangemode": "tozero"},
            "yaxis": {
                "tickvals": list(range(len(rows))),
                "ticktext": [_name(cell) for cell in rows],
                "range": [-0.6, len(rows) - 0.4],
                "zeroline": False,
            },
        },
        height=150 + 26 * len(rows),
    )


def _name(cell: Mapping[str, Any]) -> str:
    slots = f", {cell['active_slots']} slot{'s' * (cell['active_slots'] > 1)}"
    where = "" if cell["phase"] == "prefill" else slots
    return label(f"{cell['class']}{where}, context {cell['context']}")


def _bars(rows: Sequence[Mapping[str, Any]]) -> Json:
    return {
        "type": "bar",
        "orientation": "h",
        "x": [cell["floor_ms"] for cell in rows],
        "y": list(range(len(rows))),
        "width": 0.55,
        "marker": {"color": QUIET},
        "name": "predicted at best",
        "hoverinfo": "text",
        "hovertext": [_told(cell) for cell in rows],
        "textposition": "none",
    }


def _points(rows: Sequence[Mapping[str, Any]]) -> Json:
    middles = [cell["ms"]["percentiles"]["p50"] for cell in rows]
    return {
        "x": [middle["value"] for middle in middles],
        "y": list(range(len(rows))),
        "error_x": error_bars(middles),
        "mode": "markers",
        "marker": {"color": GOOD, "size": 9},
        "name": "measured, median",
        "hoverinfo": "text",
        "hovertext": [_told(cell) for cell in rows],
    }


def _told(cell: Mapping[str, Any]) -> str:
    middle = cell["ms"]["percentiles"]["p50"]["value"]
    return hover(
        f"<b>{_name(cell)}</b>",
        f"predicted {short(cell['floor_ms'])} ms, measured {short(middle)} ms",
        f"{middle / cell['floor_ms']:.2f} times the prediction",
    )
