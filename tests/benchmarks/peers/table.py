"""Rows as a rich table and as Markdown."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.benchmarks.peers.process import OWN
from tests.benchmarks.peers.summary import Row, Spread

COLUMNS = (
    "engine",
    "dtype",
    "threads",
    "ttft ms",
    "itl ms",
    "MBU",
    "RSS MB",
    "load s",
    "same tokens",
    "ttft by ours",
    "itl by ours",
    "other load",
)
SAME = "the same weights, dtypes and threads"
OF_THEIR_OWN = "as they come: dtypes and threads of their own choice, so no two are the same work"
_WIDTH = 180  # of what is no terminal
_WORDS = 2  # the first columns that are not numbers


def cells(row: Row, ours: str) -> list[str]:
    """One row's text, a cell per column."""
    is_ours = row.cell.engine == ours
    head = [row.cell.engine, _dtype(row), str(row.cell.threads or OWN)]
    if not row.rounds:
        return [*head, "failed", *[""] * (len(COLUMNS) - 5), _percent(row.others)]
    return [
        *head,
        _time(row.times["ttft_ms"]),
        _time(row.times["itl_ms"]),
        "" if row.mbu is None else f"{row.mbu:.2f}",
        f"{row.rss_bytes / 1e6:.0f}",
        f"{row.load_s:.1f}",
        str(row.same),
        *["" if is_ours else _ratio(row.ratios.get(name)) for name in ("ttft_ms", "itl_ms")],
        _percent(row.others),
    ]


def console() -> Console:
    """Wide enough for the table also where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def titled(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The tables: what can be compared, and what engines do out of the box if that was asked."""
    own = [row for row in rows if row.cell.dtype == OWN]
    same = [row for row in rows if row.cell.dtype != OWN]
    return [(title, found) for title, found in ((SAME, same), (OF_THEIR_OWN, own)) if found]


def rich_table(title: str, rows: Sequence[Row], ours: str) -> Table:
    """For a terminal."""
    caption = "medians of rounds, lowest to highest; ratios with 95 % intervals"
    table = Table(title=title, caption=caption)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < _WORDS else "right")
    for row in rows:
        table.add_row(*cells(row, ours), style="bold" if row.cell.engine == ours else None)
    return table


def markdown(title: str, rows: Sequence[Row], ours: str) -> str:
    """For a README."""
    rule = ["---" if number < _WORDS else "---:" for number in range(len(COLUMNS))]
    lines = [COLUMNS, rule, *(cells(row, ours) for row in rows)]
    return f"{title}:\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _dtype(row: Row) -> str:
    if row.cell.dtype != OWN or not row.dtypes:
        return row.cell.dtype
    return ", ".join(f"{what} {dtype}" for what, dtype in row.dtypes.items())


def _time(spread: Spread) -> str:
    low, middle, high = (
        f"{ms:.1f}" if ms < 100 else f"{ms:.0f}" for ms in (spread.low, spread.middle, spread.high)
    )
    return f"{middle} ({low}-{high})"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return ""
    return f"{spread.middle:.2f}x ({spread.low:.2f}-{spread.high:.2f})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
