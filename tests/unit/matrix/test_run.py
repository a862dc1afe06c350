from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from neuronc.errors import CompilerError, PartialError, VerificationError
from neuronc.matrix.cells import Cell
from neuronc.matrix.report import count, write_cells_junit
from neuronc.matrix.run import BuildOne, Outcome, error_of, run_cells
from neuronc.pipeline import Built
from tests.unit.matrix.built import make_built, make_cell

CELLS = tuple(make_cell(name) for name in ("a", "b", "c"))


def failing(**errors: Exception) -> BuildOne:
    def build_one(cell: Cell) -> Built:
        if cell.name in errors:
            raise errors[cell.name]
        return make_built(cell, reused=cell.name == "c")

    return build_one


def test_failure_of_one_lets_the_others_be_built() -> None:
    found = list(run_cells(CELLS, failing(a=CompilerError("boo"))))
    assert [(o.cell.name, o.result) for o in found] == [
        ("a", "failed"),
        ("b", "built"),
        ("c", "reused"),
    ]
    assert str(found[0].error) == "boo"
    assert found[1].built is not None
    assert count(found) == {"built": 1, "reused": 1, "failed": 1, "not_run": 0}


def test_fail_fast_builds_nothing_after_a_failure() -> None:
    errors = {"b": CompilerError("boo"), "c": AssertionError("was built")}
    found = list(run_cells(CELLS, failing(**errors), fail_fast=True))
    assert [o.result for o in found] == ["built", "failed", "not_run"]


def test_a_bug_in_one_is_an_outcome_too() -> None:
    found = list(run_cells(CELLS, failing(a=ValueError("boo"))))
    assert [o.result for o in found] == ["failed", "built", "reused"]


def test_interrupt_ends_it_with_what_was_finished_known() -> None:
    def build_one(cell: Cell) -> Built:
        if cell.name == "b":
            raise KeyboardInterrupt
        return make_built(cell)

    found: list[Outcome] = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(run_cells(CELLS, build_one))
    assert [o.cell.name for o in found] == ["a"]


def test_most_ranks_come_first() -> None:
    cells = [make_cell("a"), make_cell("b", tp=2), make_cell("c", tp=8), make_cell("d", tp=2)]
    assert [o.cell.name for o in run_cells(cells, failing())] == ["c", "b", "d", "a"]


def test_error_of_a_partial_failure_says_which_and_how_to_go_on() -> None:
    errors = {"a": CompilerError("boo"), "b": ValueError("boo")}
    error = error_of(list(run_cells(CELLS, failing(**errors))))
    assert isinstance(error, PartialError)
    assert error.exit_code == 12
    assert error.message == "2 of 3 builds failed: a (compiler), b (bug)"
    assert error.hint.endswith("--only a --only b")


def test_error_after_fail_fast_counts_what_was_not_run() -> None:
    found = list(run_cells(CELLS, failing(b=CompilerError("boo")), fail_fast=True))
    error = error_of(found)
    assert isinstance(error, PartialError)
    assert error.message == "1 of 3 builds failed: b (compiler); 1 not run"
    assert error.hint.endswith("--only b --only c")


def test_all_failing_is_partial_too_and_one_alone_keeps_its_error() -> None:
    errors = {name: CompilerError("boo") for name in "abc"}
    assert isinstance(error_of(list(run_cells(CELLS, failing(**errors)))), PartialError)
    assert error_of(list(run_cells(CELLS[:1], failing(**errors)))) is errors["a"]
    assert error_of(list(run_cells(CELLS, failing()))) is None
    assert error_of([]) is None


def test_junit_has_a_case_for_each_build(tmp_path: Path) -> None:
    errors = {"a": VerificationError("off by 9 ulp", hint="look"), "b": CompilerError("boo")}
    cells = [*CELLS, make_cell("d")]
    found = list(run_cells(cells, failing(**errors)))
    found[3] = Outcome(cell=found[3].cell, result="not_run")
    write_cells_junit(Path("x/some.toml"), found[::-1], tmp_path / "j.xml", shard="1/2")
    root = ET.parse(tmp_path / "j.xml").getroot()
    (suite,) = root.findall("testsuite")
    counts = [suite.get(key) for key in ("tests", "failures", "errors", "skipped")]
    assert counts == ["4", "1", "1", "1"]
    a, b, c, d = suite.findall("testcase")
    assert [case.get("name") for case in (a, b, c, d)] == ["a", "b", "c", "d"]
    assert a.get("classname") == "neuronc.build.some"
    failure, error = a.find("failure"), b.find("error")
    assert failure is not None
    assert error is not None
    assert (failure.get("type"), failure.text) == ("verification", "off by 9 ulp (look)")
    assert (error.get("type"), error.text) == ("compiler", "boo")
    assert "reused out/c, digest" in (c.findtext("system-out") or "")
    assert d.find("skipped") is not None
    assert suite.find("properties/property[@name='shard'][@value='1/2']") is not None
