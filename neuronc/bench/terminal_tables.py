"""Tables of programs for a terminal, as wide as it is: those that say least are left out first."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from neuronc.bench.outputs.reading import representative_runs, tail_of

WIDE = 100
"""Columns of a terminal that shows every percentile, with room between; fewer show p95 nowhere."""

Row = Mapping[str, Any]
Column = tuple[str, int, Callable[[Row], str]]
"""Title, the terminal's least width, and a row's text."""


def table_of(title: str, columns: Sequence[str], *, wide: bool) -> Any:
    """An empty table; the first column is of words, the others of numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    if not wide:  # one blank between columns, so that 80 hold all digits
        table.padding, table.show_edge = (0, 0), False
    for number_, column in enumerate(columns):
        table.add_column(
            column, justify="left" if number_ == 0 or column == "program" else "right", no_wrap=True
        )
    return table


def cells_table(cells: Sequence[Row], width: int) -> Any:
    """Every program by itself."""
    title = "programs alone, ms a call (predicted: at best, by the machine's peaks)"
    return _filled(title, _CELLS, cells, width)


def classes_tables(document: Row, width: int) -> Iterator[Any]:
    """The programs as runs called them: how steady each is."""
    rows = [
        {"mode": named.label, "class": name, **steps}
        for named in representative_runs(document)
        for name, steps in named.runs["steps"].items()
        if steps["ms"]["n"]
    ]
    if rows:
        title = "programs in these runs, ms a call (jitter: p99.9, of few max, over p50)"
        yield _filled(title, _CLASSES, rows, width)


def _filled(title: str, columns: Sequence[Column], rows: Sequence[Row], width: int) -> Any:
    shown = [(name, text) for name, least, text in columns if width >= least]
    table = table_of(title, [name for name, _ in shown], wide=width >= WIDE)
    for row in rows:
        table.add_row(*(text(row) for _, text in shown))
    return table


def _cut(name: str) -> Callable[[Row], str]:
    return lambda row: number(row["ms"]["percentiles"][name]["value"])


def _jitter(row: Row) -> str:
    name, ratio = tail_of(row)
    if ratio is None:
        return "-"
    return f"{'max ' if name == 'the slowest' else ''}{ratio:.2f}"


def _percent(value: float | None) -> str:
    """Below 10 % with a digit more: what is steady differs there."""
    return "-" if value is None else f"{100 * value:.{1 if value < 0.1 else 0}f} %"


_FLOOR: tuple[Column, ...] = (
    ("predicted", 0, lambda row: number(row.get("floor_ms"))),
    ("x pred.", 0, lambda row: number(row.get("over_floor"))),
)
_CELLS: tuple[Column, ...] = (
    ("program", 0, lambda row: str(row["class"])),
    ("slots", 0, lambda row: str(row["active_slots"])),
    ("context", 0, lambda row: str(row["context"])),
    ("p50", 0, _cut("p50")),
    ("95 % interval", 0, lambda row: with_interval(row["ms"]["percentiles"]["p50"])[1]),
    ("p99", 0, _cut("p99")),
    ("max", 120, lambda row: number(row["ms"]["max"])),
    ("n", 120, lambda row: str(row["n"])),
    ("tok/s", 120, lambda row: number(row["tokens_per_s"])),
    *_FLOOR,
    ("MBU", 0, lambda row: share(row["mbu"])),
    ("MFU", 120, lambda row: share(row["mfu"])),
)
_CLASSES: tuple[Column, ...] = (
    ("mode", 0, lambda row: str(row["mode"])),
    ("program", 0, lambda row: str(row["class"])),
    ("calls", 0, lambda row: f"{row['count']:,}"),
    ("time", 0, lambda row: share(row["share"])),
    ("p50", 0, _cut("p50")),
    ("p99", 0, _cut("p99")),
    ("max", 120, lambda row: number(row["ms"]["max"])),
    ("jitter", 0, _jitter),
    ("sd/mean", WIDE, lambda row: _percent(row["jitter"]["cv"])),
    _FLOOR[1],
)


def with_interval(found: Row) -> tuple[str, str]:
    """The value, and its interval where there is one."""
    if found["value"] is None:
        return "-", "-"
    low, high = found["low"], found["high"]
    known = low is not None and high is not None
    return number(found["value"]), f"{number(low)} to {number(high)}" if known else "-"


def number(value: float | None) -> str:
    """Three digits or more in at most six characters up to 999999; ``-`` where undefined."""
    if value is None:
        return "-"
    size = abs(value)
    return f"{value:.{3 if size < 1 else 2 if size < 100 else 1 if size < 1000 else 0}f}"


def share(value: float | None) -> str:
    """A share in percent."""
    return "-" if value is None else f"{100 * value:.0f} %"
