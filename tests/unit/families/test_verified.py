"""``neuronc models`` says what the tests run, no more and no less."""

from pathlib import Path

import pytest

from neuronc.families.verified import Task, verified
from tests.tiny_families import COMPILED_TP, RANKS_TP, TINY_ENCODERS, TINY_FAMILIES

REPOSITORY = Path(__file__).parents[3]


def test_every_variant_that_is_listed_is_tested_and_the_other_way_round() -> None:
    listed = {variant: family for family, found in verified().variants.items() for variant in found}

    assert listed == {variant: family for variant, (family, _) in TINY_FAMILIES.items()}
    encoders = {variant: name for name, found in verified().encoders.items() for variant in found}
    assert encoders == {variant: family for variant, (family, _) in TINY_ENCODERS.items()}


def test_the_tp_degrees_are_those_of_the_tests() -> None:
    tables: dict[Task, str] = {"generate": "TINY_FAMILIES", "embed": "TINY_ENCODERS"}
    for task, table in tables.items():
        checks = verified().checks[task]
        assert {name: check.tp for name, check in checks.items()} == {
            "ranks": RANKS_TP,
            "compiled": COMPILED_TP,
        }
        for name, check in checks.items():
            text = (REPOSITORY / check.test).read_text(encoding="utf-8")
            assert f"{name.upper()}_TP" in text
            assert table in text


@pytest.mark.parametrize("kind", ["decoders", "encoders"])
def test_every_family_with_a_file_is_tested(kind: str) -> None:
    folder = REPOSITORY / "neuronc" / "families" / kind
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    known = verified().variants if kind == "decoders" else verified().encoders

    assert files <= {name.replace("-", "_") for name in known}
