"""An option that would do nothing is refused, not ignored."""

import json
from pathlib import Path

import pytest

from neuronc.cli.app import main


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--tracer", "torch-neuronx", "--weights", "w"), "--tracer torch-neuronx takes none"),
        (("--relink", "--weights", "w"), "--relink takes none"),
        (("--relink", "--tracer", "torch-neuronx"), "--tracer torch-neuronx makes none"),
        (("--weights", "w", "-o", "out"), "--weights is for bundles"),
    ],
)
def test_compile_refuses_what_it_would_ignore(
    argv: tuple[str, ...], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", "model", *argv, "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert told in error["message"]
    assert "leave" in error["hint"]


def test_a_timeout_of_neuronx_cc_is_refused_where_it_does_not_run(
    capfd: pytest.CaptureFixture[str],
) -> None:
    argv = ["compile", "model", "-o", "out", "--target", "inf2", "--lower-only"]
    argv += ["--compile-timeout", "60"]
    assert main([*argv, "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert "--lower-only stops before it" in error["message"]
    assert error["hint"] == "pass it to neuronc compile BUNDLE"


@pytest.mark.parametrize("flags", [("--frozen",), ("--executor", "ray")])
def test_dumping_goes_with_nothing_that_does_not_lower_here(
    flags: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    argv = ["build", "model", "-o", str(tmp_path / "out"), "--dump-ir", str(tmp_path / "ir")]
    assert main([*argv, *flags, "--cache", str(tmp_path / "cache"), "--json"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert f"{flags[0]}" in error["message"]
    assert error["hint"] == "leave out one of the two"
    assert not (tmp_path / "ir").exists()
