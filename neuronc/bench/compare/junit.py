"""A comparison as JUnit XML: a test case for each rule."""

from pathlib import Path

from neuronc import junit
from neuronc.bench.compare.gate import Comparison, Verdict
from neuronc.bench.compare.report import describe


def write_junit(comparison: Comparison, path: Path, *, properties: dict[str, str]) -> None:
    """Write ``path``, whole or not at all; what was there is replaced.

    A failed rule is a ``failure`` and an inconclusive one an ``error``, so both stop a pipeline.

    Raises:
        UsageError: The place cannot be written.
    """
    junit.write_junit(junit_xml(comparison, properties=properties), path)


def junit_xml(comparison: Comparison, *, properties: dict[str, str]) -> bytes:
    """The document, UTF-8."""
    cases = [_case(verdict) for verdict in comparison.verdicts]
    notes = [f"{found.where}: {found.text}" for found in comparison.attributions]
    return junit.junit_xml("neuronc compare", cases, properties=properties, notes=notes)


def _case(verdict: Verdict) -> junit.Case:
    classname = f"neuronc.compare.{verdict.rule.mode}"
    name, told = verdict.rule.label, describe(verdict)
    if verdict.outcome == "PASS":
        return junit.Case(classname=classname, name=name, text=told)
    is_failure = verdict.outcome == "FAIL"
    return junit.Case(
        classname=classname,
        name=name,
        text=told,
        outcome="failure" if is_failure else "error",
        kind="regression" if is_failure else "inconclusive",
    )
