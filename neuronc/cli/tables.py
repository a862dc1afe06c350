"""Small drawings that several commands share."""

from collections.abc import Mapping, Sequence
from typing import Any


def draw_pairs(console: Any, pairs: Mapping[str, str]) -> None:
    """A name and a value per line, aligned."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    console.print(table)


def draw_rows(console: Any, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; all columns but the first are numbers."""
    from rich.table import Table

    table = Table()
    for number, title in enumerate(header):
        table.add_column(title, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def draw_table(console: Any, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of words; long ones go on in the next line."""
    from rich.table import Table

    table = Table()
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
