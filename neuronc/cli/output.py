"""A report, or the failure that took its place -> text or one JSON document.

This is the only module that writes to stdout. The answer goes there; warnings and, unless JSON is
asked for, errors go to stderr.
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from neuronc.errors import NeuroncError

if TYPE_CHECKING:
    from rich.console import Console

REPORT_VERSION = 1
"""Raised when a key of the envelope changes its meaning or goes away."""

_PIPED_WIDTH = 160


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a command returns.

    Attributes:
        command: The verb, as typed.
        data: The answer in JSON terms; floats that are not finite become null.
        text: Draws the answer for people; None prints ``data`` line by line.
        warnings: Doubts about the answer, one sentence each.
        error: Set when the work was done and the answer is no (a failed verification): the data
            is reported all the same, then the error, and the command exits with its code.
    """

    command: str
    data: dict[str, object] = field(default_factory=dict)
    text: "Callable[[Console], None] | None" = None
    warnings: tuple[str, ...] = ()
    error: NeuroncError | None = None

    @property
    def exit_code(self) -> int:
        """0, or the code of ``error``."""
        return 0 if self.error is None else self.error.exit_code


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The ``error`` section of the JSON document."""

    kind: str
    message: str
    hint: str
    exit_code: int

    @classmethod
    def of(cls, error: NeuroncError) -> "Failure":
        """The failure that ``error`` describes."""
        return cls(
            kind=error.kind, message=error.message, hint=error.hint, exit_code=error.exit_code
        )


def write_report(report: Report, *, as_json: bool) -> None:
    """Write ``report``, and the error it may carry."""
    failure = None if report.error is None else Failure.of(report.error)
    if as_json:
        _write_document(report, failure)
        return
    _write_text(report)
    for warning in report.warnings:
        _write_stderr(f"warning: {warning}")
    if failure is not None:
        _write_error(failure)


def write_failure(failure: Failure, *, command: str, as_json: bool) -> None:
    """Write ``failure`` of a command that came to no report."""
    if as_json:
        # A stdout that cannot be written is often the very failure to tell about.
        with contextlib.suppress(OSError):
            _write_document(Report(command=command), failure)
            return
    _write_error(failure)


def write_line(line: str) -> None:
    """Write one line of plain text to stdout."""
    _write_stdout(f"{line}\n")


def drop_stdout() -> None:
    """Forget what stdout still holds: its reader is gone and exit would flush it once more."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (devnull is no path to manage)
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextlib.contextmanager
def stdout_reserved() -> Iterator[None]:
    """Send to stderr whatever libraries and child processes print to stdout meanwhile."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _write_document(report: Report, failure: Failure | None) -> None:
    document = {
        "report_version": REPORT_VERSION,
        "command": report.command,
        "ok": failure is None,
        "data": _finite(report.data),
        "warnings": list(report.warnings),
        "error": None if failure is None else asdict(failure),
    }
    write_line(json.dumps(document, allow_nan=False))


def _finite(value: object) -> object:
    """``value`` with null for NaN and infinities, which JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _write_text(report: Report) -> None:
    from rich.console import Console

    # No markup: a path or a model's answer may hold [brackets]. Piped tables are not cut at 80.
    width = None if sys.stdout.isatty() else _PIPED_WIDTH
    console = Console(
        file=sys.stdout, width=width, markup=False, highlight=False, emoji=False, soft_wrap=True
    )
    # Captured first: rich would end the process by itself when the reader of a pipe has left.
    with console.capture() as captured:
        if report.text is not None:
            report.text(console)
        else:
            for key, value in report.data.items():
                console.print(f"{key}: {value}")
    _write_stdout(captured.get())


def _write_stdout(text: str) -> None:
    # A model's answer may hold what the terminal's encoding lacks: show its code instead.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _write_error(failure: Failure) -> None:
    _write_stderr(f"error: {failure.message}")
    if failure.hint:
        _write_stderr(f"hint: {failure.hint}")


def _write_stderr(line: str) -> None:
    # Nobody is left to tell when stderr is closed; the exit code still says it.
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
