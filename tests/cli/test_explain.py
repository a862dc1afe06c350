import json

import pytest

from neuronc.cli.app import main


def test_one_code_is_explained_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "ncc_evrf009"]) == 0
    text = capsys.readouterr().out
    assert "NCC_EVRF009" in text
    assert "--batch-size" in text
    assert "compiler/error-codes/EVRF009.rst" in text


def test_several_codes_are_explained_in_the_order_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "EVRF035", "NCC_EARG001", "--json"]) == 0
    codes = json.loads(capsys.readouterr().out)["data"]["codes"]
    assert [entry["full_code"] for entry in codes] == ["NCC_EVRF035", "NCC_EARG001"]
    assert set(codes[0]) >= {"condition", "cause", "trigger", "remedy", "decided", "source"}


def test_an_undocumented_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "EVRF029"]) == 0
    assert "no page; known from third party only" in capsys.readouterr().out


def test_without_a_code_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    text = capsys.readouterr().out
    assert text.count("NCC_") == 75
    assert text.count("(undocumented)") == 15


def test_an_unknown_code_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "EARG01"]) == 3
    told = capsys.readouterr().err
    assert "'EARG01' is no error code of neuronx-cc" in told
    assert "EARG001" in told
