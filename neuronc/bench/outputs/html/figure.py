"""A plot as data, and what all plots share: colours by role, axes, labels that cannot be markup.

Colours are written ``var(--role)`` or ``var(--role, 0.2)`` with an opacity; the page's script puts
in the value of the reader's colour scheme.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronc.bench.outputs.reading import Document, Json

SERIES = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)")
QUIET = "var(--quiet)"
GOOD, BAD = "var(--good)", "var(--bad)"
DECODE_SHADES = ("var(--decode1)", "var(--decode2)", "var(--decode3)")
PREFILL_SHADES = ("var(--prefill1)", "var(--prefill2)", "var(--prefill3)", "var(--prefill4)")
LOG_FROM = 12.0  # a quantity that spans more than this factor gets a logarithmic axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One plot with its words.

    Attributes:
        title: What to read off it.
        sentence: How to read it.
        height: Pixels, the same at every width.
        pages: Seconds that the buttons below move the x axis by; None for no buttons.
    """

    id: str
    title: str
    sentence: str
    traces: Sequence[Json]
    layout: Json = field(default_factory=dict)
    height: int = 380
    small: bool = False
    pages: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Absent:
    """A plot that the document has no data for, with the reason in its place."""

    title: str
    sentence: str


Plot = Figure | Absent


def label(text: object) -> str:
    """Text for a plot: plotly reads a little HTML in labels, so it is escaped there too."""
    return html.escape(str(text))


def hover(*lines: str) -> str:
    """Lines of a hover text; each already escaped."""
    return "<br>".join(lines)


def axis(title: str, values: Iterable[float | None] = (), **more: Any) -> Json:
    """An axis that begins at zero, or is logarithmic where ``values`` span much."""
    known = [value for value in values if value is not None and value > 0]
    made: Json = {"title": {"text": title}}
    if known and max(known) > LOG_FROM * min(known):
        made |= {"type": "log", "dtick": "D2" if max(known) < 3000 * min(known) else 1}
        made |= {"range": [math.log10(0.7 * min(known)), math.log10(1.4 * max(known))]}
    elif known:
        made |= {"rangemode": "tozero"}
    return made | more


def error_bars(points: Sequence[Mapping[str, Any]], *, scale: float = 1.0) -> Json:
    """Intervals of Estimates or percentiles; none where low or high is null.

    A bar never reaches zero, so that a logarithmic axis can show it.
    """
    up, down = [], []
    for point in points:
        value, low, high = point["value"], point["low"], point["high"]
        known = value is not None and low is not None and high is not None
        up.append(scale * max(0.0, high - value) if known else 0.0)
        down.append(scale * min(max(0.0, value - low), 0.98 * value) if known else 0.0)
    made = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return made | {"thickness": 1.5, "width": 4}


def line_at(
    value: float, *, color: str, dash: str = "dash", across: str = "y", **more: Any
) -> Json:
    """A shape: a straight line over the whole plot at ``value`` of x (``across="y"``) or y."""
    shape: Json = {"type": "line", "line": {"color": color, "width": 1.5, "dash": dash}}
    if across == "y":
        return shape | {"x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper"} | more
    return shape | {"y0": value, "y1": value, "x0": 0, "x1": 1, "xref": "paper"} | more


def class_colors(document: Document) -> dict[str, str]:
    """A colour for each step class, the same in every plot: prefill warm, decode cool.

    The order is that of the legends: prefill first, small buckets first.
    """
    made, colors = document["fingerprint"], {}
    for phase, shades in (("prefill", PREFILL_SHADES), ("decode", DECODE_SHADES)):
        buckets = sorted(made[f"{phase}_buckets"])
        for index, bucket in enumerate(buckets):
            position = index * (len(shades) - 1) / max(1, len(buckets) - 1)
            colors[f"{phase}/{bucket}"] = shades[round(position)]
    return colors


def class_order(names: Iterable[str]) -> list[str]:
    """Step classes as legends and grids have them: prefill first, small buckets first."""
    return sorted(names, key=lambda name: (name.startswith("decode"), int(name.split("/")[1])))
