"""Build cells one after another, and keep what came of each."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from neuronc.errors import NeuroncError, PartialError
from neuronc.matrix.cells import Cell
from neuronc.progress import SILENT, Progress

if TYPE_CHECKING:
    from neuronc.pipeline import Built

Result = Literal["built", "reused", "failed", "not_run"]
BuildOne = Callable[[Cell], "Built"]
"""Makes the artifact of one cell, or raises; another executor is another one of these."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one cell.

    Attributes:
        cell: The cell.
        result: ``reused`` found the artifact there; ``not_run`` follows a failure.
        elapsed_s: Wall time; 0 for what was not run.
        built: The artifact; None without one.
        error: Why it failed; an error that is no `NeuroncError` is a bug.
    """

    cell: Cell
    result: Result
    elapsed_s: float = 0.0
    built: "Built | None" = None
    error: Exception | None = None


def run_cells(
    cells: Sequence[Cell],
    build_one: BuildOne,
    *,
    fail_fast: bool = False,
    progress: Progress = SILENT,
) -> Iterator[Outcome]:
    """Build ``cells`` and give each outcome as soon as it is known.

    The failure of one does not keep the others from being built, unless ``fail_fast``: then what
    is left comes out as not run. An interrupt ends the iteration; artifacts that are whole by then
    stay, and are reused when the same cells are built again.

    The cells with most ranks are built first: a process fixes its number of devices when it
    verifies for the first time, and fewer ranks run on more devices.
    """
    order = sorted(cells, key=lambda cell: (-cell.recipe.tp, cell.name))
    has_failed = False
    for number, cell in enumerate(order, 1):
        if has_failed and fail_fast:
            yield Outcome(cell=cell, result="not_run")
            continue
        outcome = _build(cell, build_one, f"{cell.name} ({number} of {len(order)})", progress)
        has_failed = has_failed or outcome.error is not None
        yield outcome


def _build(cell: Cell, build_one: BuildOne, title: str, progress: Progress) -> Outcome:
    begin = time.perf_counter()
    try:
        with progress.stage(title):
            built = build_one(cell)
    except Exception as error:  # noqa: BLE001 (a bug in one cell is told, and the others built)
        elapsed_s = time.perf_counter() - begin
        return Outcome(cell=cell, result="failed", elapsed_s=elapsed_s, error=error)
    result: Result = "reused" if built.reused else "built"
    elapsed_s = time.perf_counter() - begin
    return Outcome(cell=cell, result=result, elapsed_s=elapsed_s, built=built)


def error_of(outcomes: Sequence[Outcome]) -> Exception | None:
    """The error of the whole run, None where every cell has its artifact.

    That of the only cell is its own; of several cells it is a `PartialError`, also if all failed.
    """
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if not failed:
        return None
    if len(outcomes) == 1:
        return failed[0].error
    told = ", ".join(f"{outcome.cell.name} ({_kind(outcome.error)})" for outcome in failed)
    not_run = sum(outcome.result == "not_run" for outcome in outcomes)
    message = f"{len(failed)} of {len(outcomes)} builds failed: {told}"
    message += f"; {not_run} not run" if not_run else ""
    again = " ".join(f"--only {o.cell.name}" for o in outcomes if o.built is None)
    return PartialError(message, hint=f"what is whole is kept; the others again: {again}")


def _kind(error: Exception | None) -> str:
    return error.kind if isinstance(error, NeuroncError) else NeuroncError.kind
