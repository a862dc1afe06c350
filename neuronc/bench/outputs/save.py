"""Writes what was measured to the files that were asked for."""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from neuronc.bench.document import all_timelines
from neuronc.bench.outputs.csv_table import csv_lines
from neuronc.bench.outputs.html.page import write_html
from neuronc.bench.outputs.markdown import markdown_lines
from neuronc.bench.outputs.perfetto import trace
from neuronc.bench.outputs.reading import Document, write_lines
from neuronc.bench.outputs.requests_jsonl import request_lines
from neuronc.bench.outputs.steps_jsonl import step_lines
from neuronc.bench.run import Measured
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.trace_file import trace_lines
from neuronc.checkpoint.paths import require_writable
from neuronc.errors import InputError, NeuroncError, PlanError, ToolchainError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where to write what; None for what nobody asked for.

    Attributes:
        output: The document.
        html: One page for people.
        markdown: A table for a pull request.
        csv: Every estimate.
        perfetto: The slots of the last run, for ui.perfetto.dev and chrome://tracing.
        save_requests: A JSON line for each request of all runs.
        save_steps: A JSON line for each program call of all runs.
        save_workload: Lengths and arrivals of the last run's requests, to be made again with
            ``--lengths @FILE``.
    """

    output: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    csv: Path | None = None
    perfetto: Path | None = None
    save_requests: Path | None = None
    save_steps: Path | None = None
    save_workload: Path | None = None

    def check(self) -> None:
        """Refuse what could not be written, before a minute is spent on measuring.

        Raises:
            UsageError: a folder does not exist or takes no files, or two files are one.
            ToolchainError: the page needs plotly.
        """
        paths = self.given()
        for option, path in paths.items():
            require_writable(option, path)
        if len({path.resolve() for path in paths.values()}) < len(paths):
            message = f"{', '.join(f'--{option}' for option in paths)} name one file twice"
            raise UsageError(message, hint="give each its own")
        if self.html is not None and find_spec("plotly") is None:
            message = "--html needs plotly, which is not installed"
            raise ToolchainError(message, hint="pip install 'neuronc[html]'")

    def given(self) -> dict[str, Path]:
        """The files that were asked for, by option."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name.replace("_", "-"): path for name, path in found.items() if path is not None}


def save(files: Files, document: Document, measured: Measured) -> NeuroncError | None:
    """Write each of ``files``; one that exists is replaced when the new one is whole.

    One that cannot be written does not take the others with it, nor what was measured: the first
    error is returned, for after the report.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "output": lambda path: write_lines([json.dumps(document, indent=1)], path),
        "html": lambda path: write_html(document, path),
        "markdown": lambda path: write_lines(markdown_lines(document), path),
        "csv": lambda path: write_lines(csv_lines(document), path),
        "perfetto": lambda path: write_lines([json.dumps(trace(document))], path),
        "save-requests": lambda path: write_lines(
            request_lines(document, all_timelines(measured)), path
        ),
        "save-steps": lambda path: write_lines(step_lines(document, all_timelines(measured)), path),
        "save-workload": lambda path: write_lines(trace_lines(_requests(measured)), path),
    }
    failed: NeuroncError | None = None
    for option, path in files.given().items():
        try:
            with _writing(option, path):
                writers[option](path)
        except NeuroncError as error:
            failed = failed or error
    return failed


def save_page(path: Path, document: Document, *, other: Document) -> None:
    """Write the page of ``document`` beside ``other``, which it is held against.

    Raises:
        InputError: One of them lacks what a page shows; files of people hold anything.
    """
    try:
        with _writing("html", path):
            write_html(document, path, other=other)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        message = f"no page can be made of these documents: {type(error).__name__}: {error}"
        raise InputError(message, hint="measure again with this version of neuronc") from error


@contextmanager
def _writing(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"--{option} {path} cannot be written: {error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlanError(message, hint="free disk space, or write to another disk") from error
        raise UsageError(message, hint="choose another place") from error


def _requests(measured: Measured) -> Iterator[RequestShape]:
    """What the last run asked for."""
    for request in measured.runs[-1].mode.requests if measured.runs else ():
        yield RequestShape(
            prompt_tokens=len(request.prompt_ids),
            new_tokens=request.new_tokens,
            arrival_s=request.arrival_s,
        )
