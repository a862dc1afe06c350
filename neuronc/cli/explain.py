"""neuronc explain: what an error code of neuronx-cc means."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neuronc.targets.neuron.error_codes import ErrorCode

EXAMPLES = (
    "neuronc explain EVRF009",
    "neuronc explain NCC_EOOM001 NCC_EVRF035 --json",
)

_DECIDED = {
    "pre-flight": "neuronc, before the compiler starts",
    "lower bound": "neuronc, where inputs and outputs alone are too much; else the compiler",
    "compiler only": "the compiler; the program alone does not show it",
}


def explain(
    codes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CODE]...", help="Such as EVRF009; without any, all are listed."),
    ] = None,
    *,
    _quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Say what error codes of neuronx-cc mean, and which setting to change."""
    from neuronc.targets.neuron.error_codes import error_codes, find_code

    asked = [find_code(code) for code in codes or ()]
    shown = asked or list(error_codes().values())

    def draw(console: Any) -> None:
        if asked:
            _draw_each(console, asked)
        else:
            _draw_list(console, shown)

    data = [{**asdict(entry), "full_code": entry.full_code} for entry in shown]
    return Report(command="explain", data={"codes": data}, text=draw)


def _draw_each(console: Any, entries: "Sequence[ErrorCode]") -> None:
    from neuronc.cli.tables import draw_pairs

    for number, entry in enumerate(entries):
        if number:
            console.print()
        pairs = {
            "code": entry.full_code,
            "means": entry.condition,
            "cause": entry.cause,
            "usual trigger": entry.trigger,
            "remedy": entry.remedy,
            "found by": _DECIDED[entry.decided],
            "source": entry.source or f"no page; known from {entry.confidence} only",
        }
        draw_pairs(console, pairs)


def _draw_list(console: Any, entries: "Sequence[ErrorCode]") -> None:
    from rich.table import Table

    table = Table()
    for title in ("code", "means", "found by"):
        table.add_column(title)
    for entry in entries:
        mark = "" if entry.documented else " (undocumented)"
        table.add_row(entry.full_code, f"{entry.condition}{mark}", entry.decided)
    console.print(table)
