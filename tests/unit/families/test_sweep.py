"""The table that ``make sweep`` writes, and what is said of it."""

import json
import re
from pathlib import Path

import pytest

from neuronc.cli.app import main
from neuronc.families.sweep import OK, count_ok, swept
from neuronc.families.transformers_source import causal_model_types
from neuronc.families.verified import verified

README = Path(__file__).parents[3] / "README.md"


def test_every_causal_lm_of_transformers_has_an_answer_at_both_degrees() -> None:
    assert swept().keys() == causal_model_types()
    for answers in swept().values():
        assert answers.keys() == {"tp1", "tp2"}
        assert all(answers.values())


def test_the_readme_quotes_the_counts() -> None:
    told = re.search(
        r"Of the (\d+) .*?(\d+) .*?tp 1 and (\d+)\s+at tp 2", README.read_text(), re.DOTALL
    )

    assert told is not None
    assert [int(number) for number in told.groups()] == [len(swept()), *count_ok().values()]


def test_families_that_tests_cover_pass_the_sweep_too() -> None:
    assert {swept()[name]["tp1"] for name in verified().variants if name in swept()} == {OK}


def test_models_tells_what_the_sweep_saw(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "mamba", "--json"]) == 0
    families = json.loads(capfd.readouterr().out)["data"]["families"]
    assert families["mamba"]["sweep"] == dict(swept()["mamba"])
    assert main(["models", "mamba"]) == 0
    assert "a tiny random clone" in capfd.readouterr().out
    assert main(["models", "llama", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["data"]["families"]["llama"]["sweep"]["tp1"] == OK
    assert main(["models", "no-such-family"]) == 2
