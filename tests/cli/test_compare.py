"""neuronc compare as a user types it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from neuronc.cli.app import main
from tests.bench_examples.documents import example
from tests.unit.bench.compare.bench_documents import enveloped, make_document, make_sweep, write


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write(tmp_path / "base.json", make_document(1)))


def other(tmp_path: Path, seed: int = 2, **changes: Any) -> str:
    return str(write(tmp_path / "new.json", enveloped(make_document(seed, **changes))))


def run_json(capfd: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = main(["compare", *argv, "--json"])
    return code, json.loads(capfd.readouterr().out)


def test_alike_passes_with_0(base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = run_json(capfd, base, other(tmp_path))
    assert (code, document["ok"], document["error"]) == (0, True, None)
    data = document["data"]
    assert data["schema"] == "neuronc.compare/1"
    assert data["verdict"] == "PASS"
    assert data["rules_from"] == "default"
    assert [rule["verdict"] for rule in data["rules"]] == ["PASS"] * 3
    assert [rule["mode"] for rule in data["rules"]] == ["latency", "latency", "throughput"]
    assert data["a"]["repeats"] == {"latency": 5, "throughput": 5}
    assert any("one after the other" in warning for warning in document["warnings"])


def test_regression_is_11_with_the_whole_report_and_its_place(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run_json(capfd, base, other(tmp_path, decode=1.1))
    assert (code, document["ok"]) == (11, False)
    assert document["error"]["kind"] == "regression"
    assert "decode/64" in document["error"]["hint"]
    assert document["data"]["verdict"] == "FAIL"
    first = document["data"]["attribution"][0]["contributions"][0]
    assert first["name"] == "decode/64"
    assert first["ms_per_request"] == pytest.approx(31 * 1.2, rel=0.1)


def test_wide_spread_is_13_and_says_how_many_more(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run_json(capfd, base, other(tmp_path, 4, repeats=3, sd=0.06))
    assert (code, document["error"]["kind"]) == (13, "inconclusive")
    needed = document["data"]["more_repeats"]
    assert f"about {needed} more repeats" in document["error"]["message"]
    assert needed > 0
    assert document["data"]["attribution"] == []


def test_difference_too_near_the_limit_is_13_in_words(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run_json(capfd, base, other(tmp_path, repeats=3, sd=0.04))
    assert (code, document["data"]["more_repeats"]) == (13, None)
    assert "needs more than 100 more repeats of each" in document["error"]["message"]


def test_table_shows_verdicts_numbers_and_attribution(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", base, other(tmp_path, decode=1.1)]) == 11
    captured = capfd.readouterr()
    lines = captured.out.splitlines()
    (row,) = [line for line in lines if "latency tpot_ms.p50" in line]
    assert row.split()[0] == "FAIL"
    assert "[+" in row
    assert ">+5 %" in row
    assert any("--fail-on sets others" in line for line in lines)
    assert any("mostly slower steps of decode/64" in line for line in lines)
    assert lines[-1].startswith("FAIL  B is past the limit of 2 of 3 rules")
    assert captured.err.count("error:") == 1


def test_own_rules_and_mode(base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ("--fail-on", "tpot.p50>+20%,latency:throughput<-20%", "--mode", "throughput")
    code, document = run_json(capfd, base, other(tmp_path, decode=1.1), *argv)
    assert code == 0
    assert document["data"]["rules_from"] == "--fail-on"
    assert [rule["mode"] for rule in document["data"]["rules"]] == ["throughput", "latency"]


def test_percentile_that_runs_leave_undefined_is_13_not_0(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, document = run_json(capfd, base, other(tmp_path), "--fail-on", "ttft.p99>+10%")
    assert code == 13
    assert "undefined in 5 of 5 repeats of A" in document["error"]["hint"]
    assert document["data"]["rules"][0]["ratio"] is None


def test_unlike_is_3_unless_allowed(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new = other(tmp_path, dtype="bf16")
    code, document = run_json(capfd, base, new)
    assert code == 3
    assert "dtype is 'f32' in A and 'bf16' in B" in document["error"]["message"]
    code, document = run_json(capfd, base, new, "--allow-different")
    assert code == 0
    assert "dtype" in document["data"]["caveats"][0]


def test_sweeps_are_compared_at_each_load_with_lines_of_their_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a = str(write(tmp_path / "a.json", make_sweep(1)))
    b = str(write(tmp_path / "b.json", make_sweep(2, good=(1.0, 0.5, 0.5))))
    junit = tmp_path / "out.xml"
    code, document = run_json(capfd, a, b, "--junit", str(junit))
    data = document["data"]
    assert (code, data["verdict"]) == (11, "FAIL")
    assert [rule["at"] for rule in data["rules"]] == [*([1.0, 2.0, 4.0] * 3), None]
    assert data["a"]["repeats"] == {"sweep": 5}
    names = [case.get("name") for case in ET.parse(junit).iter("testcase")]
    assert len(set(names)) == 10
    assert "tpot.p50>+5% at 2" in names
    assert main(["compare", a, b]) == 11
    assert "sweep at 4 ttft_ms.p50" in capfd.readouterr().out
    other = str(write(tmp_path / "b.json", make_sweep(2, loads=(1.0, 2.0, 3.0))))
    code, document = run_json(capfd, a, other)
    assert code == 3
    assert "sweep.loads is [1.0, 2.0, 4.0] in A" in document["error"]["message"]
    assert run_json(capfd, a, other, "--allow-different")[0] == 0


def test_junit_is_written_whatever_the_verdict(base: str, tmp_path: Path) -> None:
    for decode, failures in ((1.0, "0"), (1.1, "2")):
        path = tmp_path / "out.xml"
        main(["compare", base, other(tmp_path, decode=decode), "--junit", str(path)])
        assert ET.parse(path).getroot().get("failures") == failures


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("--fail-on", "tpto.p50>+5%"), 2, "the nearest is tpot.p50"),
        (("--fail-on", "throughput>+5%"), 2, "fail on an improvement"),
        (("--mode", "servr"), 2, "--mode: there is no mode 'servr'; the nearest is serve"),
        (("--mode", "serve"), 3, "has no repeats of serve"),
        (("--junit", "absent/x.xml"), 2, "--junit absent/x.xml cannot be written"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    argv: tuple[str, ...], code: int, told: str, base: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found, document = run_json(capfd, base, base, *argv)
    assert found == code
    assert told in document["error"]["message"]


def test_comparing_files_imports_neither_torch_nor_jax(base: str) -> None:
    code = (
        "import sys; from neuronc.cli.app import main; main(sys.argv[1:]);"
        "print([m for m in ('torch', 'jax', 'jaxlib', 'transformers') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, "compare", base, base, "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.splitlines()[-1] == "[]"


def test_page_shows_both_or_says_what_is_missing(
    base: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    whole = [str(tmp_path / f"{name}.json") for name in "ab"]
    for path in whole:
        Path(path).write_text(json.dumps(example("decoder")))
    assert main(["compare", *whole, "--html", str(page)]) == 0
    assert "Compared" in page.read_text()
    page.unlink()
    assert main(["compare", base, other(tmp_path), "--html", str(page)]) == 3
    assert "no page can be made of these documents" in capfd.readouterr().err
    assert not page.exists()
