"""What a long stage tells the person who waits; the drawing is in `neuronc.cli.progress`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Stage(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1, note: str = "") -> None:
        """``amount`` more is done (in the unit the stage was opened with); ``note`` names it."""


class Progress(Protocol):
    """Where stages report to."""

    def stage(
        self, title: str, *, total: float | None = None, unit: str = "", still: bool = False
    ) -> AbstractContextManager[Stage]:
        """Open a stage.

        Args:
            title: What is done.
            total: In ``unit`` (``tensors``, ``programs``, ``bytes``); None if unknown.
            unit: Of ``total`` and of what advances.
            still: Draw when it advances and not in between: what is timed there is not disturbed.
        """


class _SilentStage:
    def advance(self, amount: float = 1, note: str = "") -> None:
        pass


class SilentProgress:
    """Reports nothing: the default of every stage, so that a library call stays quiet."""

    @contextmanager
    def stage(
        self,
        title: str,
        *,
        total: float | None = None,
        unit: str = "",
        still: bool = False,
    ) -> Iterator[Stage]:
        """A stage nobody sees."""
        yield _SilentStage()


SILENT = SilentProgress()
