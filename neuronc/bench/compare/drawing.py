"""A comparison in tables for people."""

from typing import Any

from neuronc.bench.compare.attribute import Attribution
from neuronc.bench.compare.gate import Comparison, Outcome, Verdict
from neuronc.bench.compare.report import chance, change, conclusion, number

_STYLES: dict[Outcome, str] = {
    "PASS": "bold green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "bold yellow",
}

_METHOD = (
    "Each end of an interval is missed by 1 comparison in 20; the end that can fail, and p, are"
    " after Holm's correction for all rules."
)


def draw_comparison(console: Any, comparison: Comparison) -> None:
    """Verdicts, what is behind those that are no PASS, attribution, and the whole in a line."""
    from rich.text import Text

    console.print(_verdict_table(comparison.verdicts))
    console.print(_METHOD, style="dim")
    for verdict in comparison.verdicts:
        _draw_reason(console, verdict)
    for found in comparison.attributions:
        _draw_attribution(console, found)
    line = Text(comparison.outcome, style=_STYLES[comparison.outcome])
    console.print(line.append(f"  {conclusion(comparison)}", style="not bold default"))


def _verdict_table(verdicts: tuple[Verdict, ...]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("verdict", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for title in ("A", "B", "B against A [interval]", "limit", "p", "repeats"):
        table.add_column(title, justify="right", no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            Text(verdict.outcome, style=_STYLES[verdict.outcome]),
            f"{verdict.rule.where} {verdict.rule.metric}",
            *map(number, verdict.samples.means),
            change(verdict),
            f"{'>' if verdict.rule.worse > 0 else '<'}{verdict.rule.percent:+g} %",
            chance(verdict.chance_holm),
            f"{len(verdict.samples.a)}, {len(verdict.samples.b)}",
        )
    return table


def _draw_reason(console: Any, verdict: Verdict) -> None:
    if verdict.outcome == "INCONCLUSIVE":
        console.print(f"{verdict.rule.label}: {verdict.reason}")
    if verdict.more is not None:
        console.print(f"  needs {verdict.more.text}")


def _draw_attribution(console: Any, found: Attribution) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column(f"{found.where}: where the time went", no_wrap=True)
    for title in ("ms per request", "slower steps", "more steps", "share", "a step's time"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in found.contributions:
        table.add_row(
            one.name,
            f"{one.total_ms:+.3g}",
            f"{one.slower_ms:+.3g}",
            f"{one.more_steps_ms:+.3g}",
            "-" if one.share is None else f"{one.share:.0%}",
            "-" if one.ratio is None else f"{100 * (one.ratio - 1):+.1f} %",
        )
    console.print(table)
    console.print(f"{found.where}: {found.text}")
