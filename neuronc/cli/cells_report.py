"""What neuronc build says of many builds: a row and a JSON object for each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.cli.output import Report
from neuronc.errors import NeuroncError

if TYPE_CHECKING:
    from neuronc.matrix.cells import Cell
    from neuronc.matrix.lock import Lock
    from neuronc.matrix.run import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is decided before anything is built.

    Attributes:
        file: The recipe file.
        names: Of all its cells.
        cells: Those to build, at the commits of the lock.
        shard: As it was asked for.
        before: The lock file as it was; None where none is used.
        here: What the lock would say now; None where none is used.
    """

    file: Path
    names: tuple[str, ...]
    cells: "tuple[Cell, ...]"
    shard: str | None = None
    before: "Lock | None" = None
    here: "Lock | None" = None


def report_cells(plan: Plan, outcomes: "Sequence[Outcome]") -> Report:
    """The report of a run; its error is that of the run, and each build has its own."""
    from neuronc.matrix.report import count
    from neuronc.matrix.run import error_of

    error = error_of(outcomes)
    if error is not None and not isinstance(error, NeuroncError):
        raise error  # the only cell met a bug of ours: it is told as any other
    order = {cell.name: number for number, cell in enumerate(plan.cells)}
    outcomes = sorted(outcomes, key=lambda outcome: order[outcome.cell.name])
    cells, warnings = [], list[str]()
    for outcome in outcomes:
        described, told = _describe(outcome, plan)
        cells.append(described)
        warnings += [f"{outcome.cell.name}: {text}" for text in told]
    if not outcomes:
        warnings.append(f"nothing to build: shard {plan.shard} has none of {len(plan.names)}")

    def draw(console: Any) -> None:
        draw_cells(console, cells)

    data: dict[str, object] = {
        "file": str(plan.file),
        "shard": plan.shard,
        "counts": count(outcomes),
        "builds": cells,
    }
    return Report(command="build", data=data, text=draw, warnings=tuple(warnings), error=error)


def _describe(outcome: "Outcome", plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """One cell in JSON terms, and the doubts about it."""
    from neuronc.cli.built_report import report_built
    from neuronc.cli.failures import describe

    described: dict[str, Any] = {
        "name": outcome.cell.name,
        "result": outcome.result,
        "path": str(outcome.cell.out),
        "elapsed_s": round(outcome.elapsed_s, 2),
        "artifact_digest": None,
        "is_locked_digest": None,
        "artifact": None,
        "error": None if outcome.error is None else asdict(describe(outcome.error)),
    }
    if outcome.built is None:
        return described, []
    report = report_built("build", outcome.built)
    warnings = list(report.warnings)
    digest = outcome.built.manifest.digest
    before = None if plan.before is None else plan.before.cells.get(outcome.cell.name)
    if before is not None and before.artifact_digest is not None:
        from neuronc.matrix.lock_changes import digest_difference

        described["is_locked_digest"] = digest == before.artifact_digest
        difference = digest_difference(before, outcome.built.manifest)
        warnings += [difference] if difference else []
    return {**described, "artifact_digest": digest, "artifact": report.data}, warnings


def draw_cells(console: Any, cells: Sequence[Mapping[str, Any]]) -> None:
    """A row for each build."""
    from rich.table import Table

    table = Table()
    for title in ("build", "result", "seconds", "digest, or why it failed"):
        table.add_column(title, justify="right" if title == "seconds" else "left", overflow="fold")
    for cell in cells:
        error: Mapping[str, Any] | None = cell["error"]
        told = str(cell["artifact_digest"] or "")[:16]
        if error is not None:
            told = f"{error['kind']} ({error['exit_code']}): {error['message']}"
        elapsed = f"{cell['elapsed_s']:.1f}" if cell["result"] != "not_run" else ""
        table.add_row(cell["name"], cell["result"].replace("_", " "), elapsed, told)
    console.print(table)
