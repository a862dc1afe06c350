"""An option that would do nothing is refused, not ignored."""

import json

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
