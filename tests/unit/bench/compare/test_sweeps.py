"""Sweeps are compared load by load, and by how much load they bear."""

import random
from pathlib import Path
from typing import Any

import pytest

from neuronc.bench.compare.comparable import caveats, find_mismatches
from neuronc.bench.compare.documents import (
    BenchDocument,
    default_rules,
    read_document,
    with_modes,
)
from neuronc.bench.compare.exchange import chance_of_labels
from neuronc.bench.compare.gate import Comparison, compare
from neuronc.bench.compare.rules import parse_rules
from neuronc.bench.compare.runs import Run
from neuronc.errors import InputError, UsageError
from tests.unit.bench.compare.bench_documents import make_document, make_sweep, write
from tests.unit.bench.compare.simulated import rules_of


def read(tmp_path: Path, name: str, document: object) -> BenchDocument:
    return read_document(write(tmp_path / f"{name}.json", document))


def judged(tmp_path: Path, a: object, b: object, rules: str | None = None) -> Comparison:
    sides = read(tmp_path, "a", a), read(tmp_path, "b", b)
    parsed = default_rules(*sides) if rules is None else parse_rules(rules)
    return compare(sides[0].runs, sides[1].runs, with_modes(parsed, *sides))


def outcomes(comparison: Comparison) -> dict[str, str]:
    return {f"{v.rule.where} {v.rule.metric}": v.outcome for v in comparison.verdicts}


def test_every_rule_is_held_against_every_load(tmp_path: Path) -> None:
    found = outcomes(judged(tmp_path, make_sweep(1), make_sweep(2), "tpot.p50>+5%"))
    assert found == {f"sweep at {at} tpot_ms.p50": "PASS" for at in (1, 2, 4)}


def test_default_rules_of_sweeps_with_objectives_hold_their_best_load(tmp_path: Path) -> None:
    comparison = judged(tmp_path, make_sweep(1), make_sweep(2))
    assert len(comparison.verdicts) == 3 * 3 + 1
    assert comparison.verdicts[-1].rule.metric == "best_load"
    assert comparison.verdicts[-1].samples.a == (2.0,) * 5
    without = make_sweep(2)
    for point in without["modes"]["sweep"]["points"]:
        point["runs"]["slo"] = None
    assert len(judged(tmp_path, without, without).verdicts) == 9


def test_only_the_load_that_got_slower_fails_and_says_where(tmp_path: Path) -> None:
    slow = make_sweep(2)
    slow["modes"]["sweep"]["points"][1]["runs"]["repeats"] = make_document(3, decode=1.2)["modes"][
        "latency"
    ]["repeats"]
    comparison = judged(tmp_path, make_sweep(1), slow, "tpot.p50>+5%")
    assert [v.outcome for v in comparison.verdicts] == ["PASS", "FAIL", "PASS"]
    (attribution,) = comparison.attributions
    assert attribution.where == "sweep at 2"
    assert attribution.contributions[0].name == "decode/64"


@pytest.mark.parametrize(
    ("change", "best", "knee"),
    [
        ({"good": (1.0, 0.5, 0.5)}, ("FAIL", 1.0), ("PASS", 2.0)),
        ({"good": (1.0, 1.0, 1.0)}, ("PASS", 4.0), ("PASS", 2.0)),
        ({"good": (0.5, 1.0, 1.0)}, ("FAIL", 0.5), ("PASS", 2.0)),
        ({"kept_up": (1.0, 0.8, 0.7)}, ("PASS", 2.0), ("FAIL", 1.0)),
        ({"kept_up": (1.0, 1.0, 1.0)}, ("PASS", 2.0), ("PASS", 4.0)),
        ({"kept_up": (0.8, 0.7, 0.6)}, ("PASS", 2.0), ("FAIL", 0.5)),
    ],
)
def test_best_load_and_knee_of_each_repeat_are_compared(
    change: dict[str, Any], best: tuple[str, float], knee: tuple[str, float], tmp_path: Path
) -> None:
    comparison = judged(tmp_path, make_sweep(1), make_sweep(2, **change), "best<-5%,knee<-5%")
    found = [(v.outcome, v.samples.b[0]) for v in comparison.verdicts]
    assert found == [best, knee]


def test_knee_by_concurrency_is_told_by_throughput(tmp_path: Path) -> None:
    b = make_sweep(2, by="concurrency")
    for point in b["modes"]["sweep"]["points"][1:]:
        for run in point["runs"]["repeats"]:
            run["metrics"]["output_tokens_per_s"] = 1.0
    (verdict,) = judged(tmp_path, make_sweep(1, by="concurrency"), b, "knee<-5%").verdicts
    assert (verdict.outcome, verdict.samples.a[0], verdict.samples.b[0]) == ("FAIL", 4.0, 1.0)


def test_sweeps_without_a_pace_or_objectives_have_no_such_load(tmp_path: Path) -> None:
    old = make_sweep(2)
    for point in old["modes"]["sweep"]["points"]:
        point["runs"]["slo"] = None
        for run in point["runs"]["repeats"]:
            del run["metrics"]["kept_up"]
    comparison = judged(tmp_path, make_sweep(1), old, "best<-5%,knee<-5%")
    assert [v.outcome for v in comparison.verdicts] == ["INCONCLUSIVE"] * 2
    assert "undefined in 5 of 5 repeats of B" in comparison.verdicts[1].reason


def test_other_loads_are_refused_by_name_and_else_compared_where_both_are(tmp_path: Path) -> None:
    a = read(tmp_path, "a", make_sweep(1))
    b = read(tmp_path, "b", make_sweep(2, loads=(1.0, 2.0, 8.0)))
    rules = with_modes(parse_rules("tpot.p50>+5%"), a, b)
    assert [rule.at for rule in rules] == [1.0, 2.0]
    (found,) = find_mismatches(a, b, rules)
    assert found.text == "sweep.loads is [1.0, 2.0, 4.0] in A and [1.0, 2.0, 8.0] in B"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"loads": (3.0, 5.0, 7.0)}, "rate at 1, 2, 4 and .*b.json by rate at 3, 5, 7"),
        ({"by": "concurrency"}, "by concurrency at 1, 2, 4"),
    ],
)
def test_sweeps_with_no_load_in_common_are_refused(
    other: dict[str, Any], told: str, tmp_path: Path
) -> None:
    a, b = read(tmp_path, "a", make_sweep(1)), read(tmp_path, "b", make_sweep(2, **other))
    with pytest.raises(InputError, match=told):
        with_modes(parse_rules("tpot.p50>+5%"), a, b)


def test_other_arrivals_objectives_and_counts_at_a_load_are_named(tmp_path: Path) -> None:
    other = make_sweep(2)
    runs = other["modes"]["sweep"]["points"][1]["runs"]
    runs |= {"arrival": "constant", "slo": {"ttft_ms": 500.0, "wanted_attainment": 0.99}}
    runs["repeats"][0]["num_requests"] = 99
    a, b = read(tmp_path, "a", make_sweep(1)), read(tmp_path, "b", other)
    texts = [one.text for one in find_mismatches(a, b, with_modes(parse_rules("best<-5%"), a, b))]
    assert texts == [
        "sweep at 2.slo.wanted_attainment is 0.9 in A and 0.99 in B",
        "sweep at 2.arrival is 'poisson' in A and 'constant' in B",
    ]
    told = " | ".join(caveats(a, b, (), in_turn=False))
    assert "sweep at 2: runs have 8 in A and 99 in B requests" in told


@pytest.mark.parametrize(
    "change",
    [
        {"by": "moon"},
        {"points": [{"at": "2"}]},
        {"points": [{"at": 0, "runs": {}}]},
        {"points": [{"at": True, "runs": {}}]},
        {"points": [{"at": 1.0, "runs": {"repeats": [{"metrics": 1}]}}]},
        {"points": 3},
    ],
)
def test_what_is_no_sweep_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    broken = make_sweep(1)
    broken["modes"]["sweep"] |= change
    with pytest.raises(InputError, match=r"a\.json is no whole"):
        read(tmp_path, "a", broken)


def test_best_load_of_another_mode_is_refused() -> None:
    with pytest.raises(UsageError, match="is of a whole sweep"):
        parse_rules("latency:best<-5%")


@pytest.mark.parametrize("repeats", [3, 5])
@pytest.mark.parametrize("chance", [0.1, 0.5, 0.9])
def test_loads_on_a_grid_raise_at_most_one_false_alarm_in_20(repeats: int, chance: float) -> None:
    # The hardest case: the truth lies between two loads, so each repeat lands on either by chance.
    draw, pairs = random.Random(f"{repeats} {chance}"), 500
    rules = rules_of("sweep:best<-5%")

    def sweeps() -> list[Run]:
        return [_loads(4.0 if draw.random() < chance else 2.0) for _ in range(repeats)]

    failed = sum(compare(sweeps(), sweeps(), rules).outcome == "FAIL" for _ in range(pairs))
    assert failed <= 0.05 * pairs
    found = compare([_loads(4.0)] * repeats, [_loads(2.0)] * repeats, rules).outcome
    assert found == "FAIL"  # and it is no gate that never fails


def test_chance_of_labels_is_counted_by_hand() -> None:
    # of the 6 ways to deal 4, 4, 2, 2 to two and two, one gives B both 2s
    assert chance_of_labels([4.0, 4.0], [2.0, 2.0], worse=-1) == pytest.approx(1 / 6)
    assert chance_of_labels([4.0, 2.0], [4.0, 2.0], worse=-1) == pytest.approx(5 / 6)
    assert chance_of_labels([2.0, 2.0], [4.0, 4.0], worse=-1) == 1


def _loads(at: float) -> Run:
    return Run(mode="sweep", duration_s=None, num_requests=0, metrics={"best_load": at})
