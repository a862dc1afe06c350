"""What came of the cells of a file, for people and for CI systems."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from neuronc.errors import NeuroncError, VerificationError
from neuronc.junit import Case, junit_xml, write_junit
from neuronc.matrix.run import Outcome, Result


def count(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many cells came to which result."""
    results = [outcome.result for outcome in outcomes]
    return {name: results.count(name) for name in get_args(Result)}


def write_cells_junit(
    file: Path, outcomes: Sequence[Outcome], path: Path, *, shard: str | None
) -> None:
    """Write a test case for each cell of the recipe ``file`` to ``path``.

    Wrong numbers are a ``failure``, whatever else ended a build is an ``error``.

    Raises:
        UsageError: the place cannot be written.
    """
    cases = [_case(file, outcome) for outcome in sorted(outcomes, key=lambda o: o.cell.name)]
    properties = {"file": str(file), **({} if shard is None else {"shard": shard})}
    write_junit(junit_xml("neuronc build", cases, properties=properties), path)


def _case(file: Path, outcome: Outcome) -> Case:
    classname, name = f"neuronc.build.{file.stem}", outcome.cell.name
    elapsed_s, error = outcome.elapsed_s, outcome.error
    if error is not None:
        hint = error.hint if isinstance(error, NeuroncError) else ""
        return Case(
            classname=classname,
            name=name,
            text=f"{error or type(error).__name__}" + (f" ({hint})" if hint else ""),
            outcome="failure" if isinstance(error, VerificationError) else "error",
            kind=error.kind if isinstance(error, NeuroncError) else NeuroncError.kind,
            elapsed_s=elapsed_s,
        )
    if outcome.built is None:
        text = "not run: another build failed before"
        return Case(classname=classname, name=name, text=text, outcome="skipped")
    text = f"{outcome.result} {outcome.cell.out}, digest {outcome.built.manifest.digest}"
    return Case(classname=classname, name=name, text=text, elapsed_s=elapsed_s)
