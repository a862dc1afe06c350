import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from neuronc.cli.output import Failure, Report, stdout_reserved, write_failure, write_report
from neuronc.errors import VerificationError

if TYPE_CHECKING:
    from rich.console import Console


def test_json_report_is_one_line_with_the_promised_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_report(Report(command="bench", data={"n": 1}, warnings=("noisy",)), as_json=True)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {
        "report_version": 1,
        "command": "bench",
        "ok": True,
        "data": {"n": 1},
        "warnings": ["noisy"],
        "error": None,
    }
    assert captured.err == ""


def test_numbers_that_json_cannot_say_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    data: dict[str, object] = {
        "nan": float("nan"),
        "nested": [{"inf": float("inf")}, (1.5, float("-inf"))],
    }
    write_report(Report(command="bench", data=data), as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out)["data"] == {"nan": None, "nested": [{"inf": None}, [1.5, None]]}


def test_data_that_is_not_json_is_our_bug_and_prints_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_report(Report(command="bench", data={"x": object()}), as_json=True)
    assert capsys.readouterr().out == ""


def test_failed_verification_reports_its_data_and_its_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = VerificationError("logits differ by 900 ulp", hint="see data.worst")
    report = Report(command="verify", data={"worst": 900}, error=error)
    assert report.exit_code == 6
    write_report(report, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["data"] == {"worst": 900}
    assert document["error"]["kind"] == "verification"


def test_failed_verification_shows_text_on_stdout_and_the_error_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = VerificationError("logits differ", hint="look")
    write_report(Report(command="verify", data={"worst": 900}, error=error), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == "worst: 900\n"
    assert captured.err == "error: logits differ\nhint: look\n"


def test_warnings_of_a_text_report_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write_report(Report(command="bench", warnings=("noisy",)), as_json=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: noisy\n"


def test_text_is_drawn_by_the_reports_own_renderer_without_markup_or_wrapping(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "[bold]not markup :smile: " + "x" * 300

    def text(console: "Console") -> None:
        console.print(line)

    write_report(Report(command="generate", text=text), as_json=False)
    assert capsys.readouterr().out == f"{line}\n"


def test_failure_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure(kind="interrupted", message="interrupted", hint="", exit_code=130)
    write_failure(failure, command="bench", as_json=False)
    assert capsys.readouterr().err == "error: interrupted\n"


def test_text_the_encoding_of_stdout_lacks_is_shown_as_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    write_report(Report(command="generate", data={"answer": "Zürich"}), as_json=False)
    assert raw.getvalue() == b"answer: Z\\xfcrich\n"


def test_stray_prints_of_libraries_and_children_go_to_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with stdout_reserved():
        print("from python")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    print("the answer")
    captured = capfd.readouterr()
    assert captured.out == "the answer\n"
    assert "from python" in captured.err
    assert "from a child" in captured.err


def run_version_into(stdout: IO[str] | int, *flags: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "neuronc", "version", *flags],
        check=False,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("flags", [[], ["--json"], ["--help"]])
def test_reader_that_left_early_is_no_error(flags: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert run_version_into(writing, *flags) == (0, "")
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_report_onto_a_full_disk_is_exit_4(flags: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        exit_code, message = run_version_into(full, *flags)
    assert exit_code == 4
    assert "No space left" in message
