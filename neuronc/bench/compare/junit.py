"""A comparison as JUnit XML: a test case for each rule."""

import os
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from neuronc.bench.compare.gate import Comparison, Verdict
from neuronc.bench.compare.report import describe
from neuronc.errors import UsageError

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0 cannot say these characters, not even escaped."""


def write_junit(comparison: Comparison, path: Path, *, properties: dict[str, str]) -> None:
    """Write ``path``, whole or not at all; what was there is replaced.

    A failed rule is a ``failure`` and an inconclusive one an ``error``, so both stop a pipeline.

    Raises:
        UsageError: The place cannot be written.
    """
    content = junit_xml(comparison, properties=properties)
    try:
        _replace(path, content)
    except OSError as error:
        message = f"--junit: cannot write {path}: {error.strerror or error}"
        raise UsageError(message, hint="choose a file in a folder that you may write to") from error


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    staging = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        staging.chmod(0o644)  # mkstemp makes it private
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def junit_xml(comparison: Comparison, *, properties: dict[str, str]) -> bytes:
    """The document, UTF-8."""
    outcomes = [verdict.outcome for verdict in comparison.verdicts]
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("FAIL")),
        "errors": str(outcomes.count("INCONCLUSIVE")),
    }
    root = ET.Element("testsuites", {"name": "neuronc compare", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": "neuronc compare", **counts})
    listed = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(listed, "property", name=_clean(name), value=_clean(value))
    for verdict in comparison.verdicts:
        _add_case(suite, verdict)
    for found in comparison.attributions:
        ET.SubElement(suite, "system-out").text = _clean(f"{found.mode}: {found.text}")
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _add_case(suite: ET.Element, verdict: Verdict) -> None:
    classname = f"neuronc.compare.{verdict.rule.mode}"
    case = ET.SubElement(
        suite, "testcase", classname=classname, name=_clean(verdict.rule.text), time="0"
    )
    told = _clean(describe(verdict))
    if verdict.outcome == "PASS":
        ET.SubElement(case, "system-out").text = told
        return
    kind, name = {"FAIL": ("regression", "failure"), "INCONCLUSIVE": ("inconclusive", "error")}[
        verdict.outcome
    ]
    ET.SubElement(case, name, type=kind, message=told).text = told


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
