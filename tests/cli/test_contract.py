"""What every command promises: flags, help, the JSON envelope, exit codes and a light start."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neuronc.cli import options
from neuronc.cli.app import COMMANDS, GROUPS, create_app, main, run
from neuronc.cli.options import JsonFlag, QuietFlag
from neuronc.cli.output import Report
from neuronc.errors import InputError, VerificationError

HEAVY = ("pydantic", "torch", "jax", "jaxlib", "transformers", "numpy", "rich", "huggingface_hub")
VERBS = [*COMMANDS, *(f"{group} {verb}" for group, (_, verbs) in GROUPS.items() for verb in verbs)]
ENVELOPE = ["report_version", "command", "ok", "data", "warnings", "error"]


def spawn(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True)


def run_command(command: Callable[..., Report], *arguments: str) -> int:
    """Run ``neuronc probe ARGUMENTS`` where ``probe`` is ``command``."""
    app = create_app({"probe": (command, ("neuronc probe", "neuronc probe --json"))})
    return run(app, ["probe", *arguments])


def run_raising(error: BaseException, *arguments: str) -> int:
    def probe(*, _quiet: QuietFlag = False, _json: JsonFlag = False) -> Report:
        raise error

    return run_command(probe, *arguments)


def options_probe(
    *,
    tp: options.TpOption = None,
    prefill_buckets: options.PrefillBucketsOption = None,
    decode_buckets: options.DecodeBucketsOption = None,
    dtype: options.DtypeOption = None,
    target: options.TargetOption = None,
    _json: JsonFlag = False,
) -> Report:
    given = {"tp": tp, "prefill": prefill_buckets, "decode": decode_buckets}
    return Report(command="probe", data={**given, "dtype": dtype, "target": target})


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, neuronc.cli.app; print([m for m in {HEAVY} if m in sys.modules])"
    loaded = spawn("-c", code)
    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_version_command_imports_none_of_the_packages_it_reports() -> None:
    code = (
        "import sys; from neuronc.cli.app import main; main(['version', '--json']);"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    answer = spawn("-c", code)
    document, loaded = answer.stdout.splitlines()
    assert json.loads(document)["data"]["jaxlib"]
    assert loaded == "[]"


@pytest.mark.parametrize("name", [*VERBS, *GROUPS])
def test_help_of_every_command_ends_with_two_examples_of_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*name.split(), "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.strip().splitlines()]
    assert lines[-3] == "Examples:"
    assert all(line.startswith(f"neuronc {name}") for line in lines[-2:])
    assert lines[-2] != lines[-1]


@pytest.mark.parametrize("name", VERBS)
def test_every_command_takes_json_and_quiet(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*name.split(), "--help"])
    help_text = capsys.readouterr().out
    assert "--json" in help_text
    assert "--quiet" in help_text


def test_help_lists_every_command_and_ends_with_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    help_text = capsys.readouterr().out
    assert all(f"\n  {name} " in help_text for name in (*COMMANDS, *GROUPS))
    assert "Examples:" in help_text


def test_version_flag_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("neuronc ")


def test_version_reports_the_libraries_that_shape_the_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["version", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ENVELOPE
    assert document["report_version"] == 1
    assert list(document["data"])[:4] == ["neuronc", "python", "torch", "torch-mlir"]


@pytest.mark.parametrize(
    "arguments",
    [["version", "--bogus", "--json"], ["--json", "versoin"], ["version", "--json", "--quiet=3"]],
)
def test_usage_error_found_before_the_command_still_speaks_json(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document) == ENVELOPE
    assert document["ok"] is False
    assert list(document["error"]) == ["kind", "message", "hint", "exit_code"]
    assert document["error"]["exit_code"] == 2
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["cache", "ls", "--bogus"], "cache ls"),
        (["cache", "lss"], "cache"),
        (["cache"], "cache"),
        (["cahce", "ls"], "neuronc"),
        (["version", "ls"], "version"),
    ],
)
def test_usage_error_of_a_verb_of_a_verb_names_both(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["command"] == command


def test_json_after_a_double_dash_is_an_argument_not_the_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["version", "--", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")


def test_error_goes_to_stderr_as_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_raising(InputError("a.gguf is empty", hint="fetch it again")) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: a.gguf is empty\nhint: fetch it again\n"


def test_error_in_a_command_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_raising(InputError("a.gguf is empty", hint="fetch it again"), "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "probe"
    assert document["data"] == {}
    assert document["error"] == {
        "kind": "input",
        "message": "a.gguf is empty",
        "hint": "fetch it again",
        "exit_code": 3,
    }


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 8, "out of memory"),
        (OSError(28, "No space left on device", "/big"), 4, "/big: No space left"),
        (PermissionError(13, "Permission denied", "/etc/x"), 2, "/etc/x: Permission denied"),
        (OSError(30, "Read-only file system", "/ro"), 2, "/ro: Read-only"),
        (VerificationError("off by 9 ulp"), 6, "off by 9 ulp"),
    ],
)
def test_error_becomes_its_exit_code_and_one_short_message(
    error: BaseException, exit_code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_raising(error) == exit_code
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "error", [ValueError("boo"), BrokenPipeError(32, "boo"), SystemExit("boo"), EOFError("boo")]
)
def test_bug_leaves_a_log_with_traceback_and_versions(
    error: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_raising(error) == 1
    message = capsys.readouterr().err
    (log,) = tmp_path.iterdir()
    assert str(log) in message
    assert "Traceback" not in message
    details = log.read_text(encoding="utf-8")
    assert "Traceback" in details
    assert "\ntorch " in details


def test_bug_shows_the_traceback_when_no_log_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    assert run_raising(ValueError("boo")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_document_stays_alone_on_stdout_when_a_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def probe(*, _json: JsonFlag = False) -> Report:
        print("stray")
        return Report(command="probe")

    assert run_command(probe, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_options_not_given_are_none_so_that_a_recipe_can_fill_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(options_probe, "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert set(data.values()) == {None}


def test_bucket_lists_are_sorted_and_unique(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(options_probe, "--prefill-buckets", "128, 32,128", "--json") == 0
    assert json.loads(capsys.readouterr().out)["data"]["prefill"] == [32, 128]


@pytest.mark.parametrize("target", ["cpu", "inf2", "trn1", "trn1n", "trn2", "trn3"])
def test_every_target_is_accepted_by_the_parser(target: str) -> None:
    assert run_command(options_probe, "--target", target) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tp", "0"),
        ("--tp", "two"),
        ("--prefill-buckets", "32,x"),
        ("--prefill-buckets", "0,32"),
        ("--decode-buckets", ""),
        ("--dtype", "f64"),
        ("--target", "gpu"),
    ],
)
def test_bad_option_value_is_a_usage_error_naming_the_option(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(options_probe, *arguments) == 2
    assert arguments[0] in capsys.readouterr().err
