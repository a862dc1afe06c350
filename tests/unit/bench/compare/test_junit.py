import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from neuronc.bench.compare.gate import Comparison, compare
from neuronc.bench.compare.junit import junit_xml, write_junit
from neuronc.errors import UsageError
from tests.unit.bench.compare.simulated import make_runs, rules_of


def three_outcomes() -> Comparison:
    import random

    draw = random.Random(0)
    a = make_runs(draw, 5, 0.002)
    b = make_runs(draw, 5, 0.002, slowdown=0.2, slower=("ttft_ms.p50",))
    b = [replace(run, metrics={**run.metrics, "itl_ms.p99": None}) for run in b]
    return compare(a, b, rules_of("tpot.p50>+5%,ttft.p50>+5%,itl.p99>+5%"))


def test_a_test_case_for_each_rule_with_failure_and_error() -> None:
    root = ET.fromstring(junit_xml(three_outcomes(), properties={"A file": "a.json"}))
    (suite,) = root.findall("testsuite")
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors")}
    assert counts == {"tests": "3", "failures": "1", "errors": "1"}
    passed, failed, unclear = suite.findall("testcase")
    assert (passed.get("name"), passed.get("classname")) == (
        "tpot.p50>+5%",
        "neuronc.compare.latency",
    )
    assert passed.find("failure") is passed.find("error") is None
    failure, error = failed.find("failure"), unclear.find("error")
    assert failure is not None
    assert error is not None
    assert "past the limit of +5 %" in (failure.get("message") or "")
    assert "undefined in 5 of 5 repeats" in (error.text or "")
    assert suite.find("properties/property[@name='A file']") is not None


def test_one_rule_at_two_loads_is_two_names() -> None:
    comparison = three_outcomes()
    first = comparison.verdicts[0]
    loads = tuple(replace(first, rule=replace(first.rule, at=load)) for load in (1.0, 2.0))
    root = ET.fromstring(junit_xml(replace(comparison, verdicts=loads), properties={}))
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == [f"{first.rule.text} at 1", f"{first.rule.text} at 2"]


@pytest.mark.parametrize("text", ["<&>\"'", "]]>", "\x00\x1b[31m", "\ud800", "Zürich \U0001f600"])
def test_any_text_is_well_formed(text: str) -> None:
    comparison = three_outcomes()
    odd = tuple(
        replace(verdict, rule=replace(verdict.rule, text=text), reason=text)
        for verdict in comparison.verdicts
    )
    made = junit_xml(replace(comparison, verdicts=odd), properties={text: text})
    assert len(ET.fromstring(made).findall(".//testcase")) == 3


def test_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "compare.xml"
    path.write_text("old")
    write_junit(three_outcomes(), path, properties={})
    assert ET.parse(path).getroot().tag == "testsuites"
    assert [p.name for p in tmp_path.iterdir()] == ["compare.xml"]


def test_interrupted_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "compare.xml"
    path.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_junit(three_outcomes(), path, properties={})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["compare.xml"]  # noqa: PTH208


def test_place_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--junit: cannot write"):
        write_junit(three_outcomes(), tmp_path / "absent" / "x.xml", properties={})
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="--junit: cannot write"):
        write_junit(three_outcomes(), tmp_path / "folder", properties={})
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
