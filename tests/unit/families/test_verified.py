"""``neuronc models`` says what the tests run, no more and no less."""

import importlib
from itertools import product
from pathlib import Path

import pytest

from neuronc.families.verified import Task, verified
from tests.tiny_families import TINY_ENCODERS, TINY_FAMILIES

REPOSITORY = Path(__file__).parents[3]


def test_every_variant_that_is_listed_is_tested_and_the_other_way_round() -> None:
    listed = {variant: family for family, found in verified().variants.items() for variant in found}

    assert listed == {variant: family for variant, (family, _) in TINY_FAMILIES.items()}
    encoders = {variant: name for name, found in verified().encoders.items() for variant in found}
    assert encoders == {variant: family for variant, (family, _) in TINY_ENCODERS.items()}


@pytest.mark.parametrize("task", ["generate", "embed"])
@pytest.mark.parametrize("name", ["ranks", "compiled"])
def test_every_variant_is_run_at_every_degree_that_is_listed(task: Task, name: str) -> None:
    check = verified().checks[task][name]
    table = verified().variants if task == "generate" else verified().encoders
    variants = [variant for found in table.values() for variant in found]

    assert _cases(check.test) == {(variant, tp) for variant in variants for tp in check.tp}


def _cases(file: str) -> set[tuple[str, int]]:
    """Variants and tp degrees that the tests in ``file`` are given, slow ones included."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    cases: set[tuple[str, int]] = set()
    for test in vars(module).values():
        given = {
            mark.args[0]: [getattr(value, "values", [value])[0] for value in mark.args[1]]
            for mark in getattr(test, "pytestmark", [])
            if mark.name == "parametrize"
        }
        if {"variant", "tp"} <= given.keys():
            cases.update(product(given["variant"], given["tp"]))
    return cases


@pytest.mark.parametrize("kind", ["decoders", "encoders"])
def test_every_family_with_a_file_is_tested(kind: str) -> None:
    folder = REPOSITORY / "neuronc" / "families" / kind
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    known = verified().variants if kind == "decoders" else verified().encoders

    assert files <= {name.replace("-", "_") for name in known}
