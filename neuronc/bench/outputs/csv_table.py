"""All estimates of a document as one table: a row per metric per mode."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from neuronc.bench.outputs.reading import Document, is_invalid, named_runs, verdict

COLUMNS = (
    "status",
    "mode",
    "at",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "confidence",
    "relative_half_width",
    "reason",
)
CELL_CONFIDENCE = 0.95


def csv_lines(document: Document) -> Iterator[str]:
    """Header, then rows; an undefined number is an empty field and its row has the reason.

    ``at`` is the rate or concurrency of a sweep, or the cell of the steps mode. An invalid run
    has one row, without a number.
    """
    yield _line(COLUMNS)
    if is_invalid(document):
        yield _line(_cells({"status": "invalid", "reason": verdict(document)}))
        return
    rows = (*_step_rows(document), *_run_rows(document))
    for row in rows:
        yield _line(_cells({"status": document["status"], **row}))


def _run_rows(document: Document) -> Iterator[dict[str, Any]]:
    for named in named_runs(document):
        for metric, estimate in named.runs["estimates"].items():
            yield {"mode": named.mode, "at": named.at, "metric": metric, **estimate}


def _step_rows(document: Document) -> Iterator[dict[str, Any]]:
    for cell in document["modes"].get("steps", {"cells": ()})["cells"]:
        at = f"{cell['class']} slots={cell['active_slots']} context={cell['context']}"
        place = {"mode": "steps", "at": at, "n": cell["n"]}
        for name, point in cell["ms"]["percentiles"].items():
            yield {**place, "metric": f"step_ms.{name}", **point, "confidence": CELL_CONFIDENCE}
        for name in ("tokens_per_s", "mbu", "mfu", "floor_ms", "over_floor"):
            yield {**place, "metric": name, "value": cell.get(name)}


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple("" if row.get(column) is None else row[column] for column in COLUMNS)


def _line(fields: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()
