"""Results as JUnit XML, which every CI system shows."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from neuronc.errors import UsageError

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0 cannot say these characters, not even escaped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One test case.

    Attributes:
        classname: Group that viewers show it in.
        name: Of the case.
        text: What is told about it.
        outcome: A ``failure`` and an ``error`` both stop a pipeline.
        kind: Of failure or error, one word.
        elapsed_s: Wall time.
    """

    classname: str
    name: str
    text: str
    outcome: Literal["passed", "failure", "error", "skipped"] = "passed"
    kind: str = ""
    elapsed_s: float = 0.0


def junit_xml(
    suite_name: str,
    cases: Sequence[Case],
    *,
    properties: Mapping[str, str],
    notes: Sequence[str] = (),
) -> bytes:
    """The document of one suite, UTF-8; ``notes`` are about all cases."""
    outcomes = [case.outcome for case in cases]
    counts = {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
    }
    if "skipped" in outcomes:
        counts["skipped"] = str(outcomes.count("skipped"))
    root = ET.Element("testsuites", {"name": suite_name, **counts})
    suite = ET.SubElement(root, "testsuite", {"name": suite_name, **counts})
    listed = ET.SubElement(suite, "properties")
    for name, value in properties.items():
        ET.SubElement(listed, "property", name=_clean(name), value=_clean(value))
    for case in cases:
        _add_case(suite, case)
    for note in notes:
        ET.SubElement(suite, "system-out").text = _clean(note)
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def write_junit(content: bytes, path: Path) -> None:
    """Write ``path``, whole or not at all; what was there is replaced.

    Raises:
        UsageError: The place cannot be written.
    """
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


def _add_case(suite: ET.Element, case: Case) -> None:
    attributes = {"classname": _clean(case.classname), "name": _clean(case.name)}
    element = ET.SubElement(suite, "testcase", {**attributes, "time": f"{case.elapsed_s:.3g}"})
    text = _clean(case.text)
    if case.outcome == "passed":
        ET.SubElement(element, "system-out").text = text
    elif case.outcome == "skipped":
        ET.SubElement(element, "skipped", message=text)
    else:
        ET.SubElement(element, case.outcome, type=case.kind, message=text).text = text


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
