import math
import re
from dataclasses import replace

import pytest

from neuronc.bench.compare.gate import Verdict, compare
from neuronc.bench.compare.interleaved import interleaved_order
from neuronc.bench.compare.report import conclusion, describe, to_dict
from neuronc.bench.compare.runs import Run
from tests.unit.bench.compare.simulated import rules_of

STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)


def runs(*values: float | None, metric: str = "tpot_ms.p50", failed: int = 0) -> list[Run]:
    return [
        Run(
            mode="latency",
            duration_s=1.0,
            num_requests=8,
            num_failed=failed,
            metrics={metric: value},
        )
        for value in values
    ]


def times(factor: float, values: tuple[float, ...] = STEADY) -> list[float]:
    return [factor * value for value in values]


def only(a: list[Run], b: list[Run], rule: str = "tpot.p50>+5%") -> Verdict:
    (verdict,) = compare(a, b, rules_of(rule)).verdicts
    return verdict


def test_slower_than_the_limit_fails() -> None:
    verdict = only(runs(*STEADY), runs(*times(1.10)))
    assert verdict.outcome == "FAIL"
    assert verdict.ratio == pytest.approx(1.10)
    assert verdict.low is not None
    assert verdict.low > 1.05


def test_slower_within_the_limit_passes_and_so_does_faster() -> None:
    assert only(runs(*STEADY), runs(*times(1.03))).outcome == "PASS"
    assert only(runs(*STEADY), runs(*times(0.50))).outcome == "PASS"


def test_throughput_fails_downwards_only() -> None:
    def verdict(factor: float) -> Verdict:
        metric = "output_tokens_per_s"
        b = runs(*times(factor), metric=metric)
        return only(runs(*STEADY, metric=metric), b, "throughput<-5%")

    assert [verdict(f).outcome for f in (0.90, 0.97, 1.5)] == ["FAIL", "PASS", "PASS"]
    low, high = verdict(0.9).low, verdict(0.9).high
    assert low is not None
    assert high is not None
    assert low < 0.9 < high < 0.95


def test_demanded_improvement_fails_where_it_does_not_come() -> None:
    rule = "tpot.p50>-10%"
    assert only(runs(*STEADY), runs(*times(0.80)), rule).outcome == "PASS"
    assert only(runs(*STEADY), runs(*STEADY), rule).outcome == "FAIL"


def test_wide_spread_is_inconclusive_and_says_how_many_more() -> None:
    wide = (8.0, 12.5, 10.0)
    verdict = only(runs(*wide), runs(*times(1.01, wide)))
    assert verdict.outcome == "INCONCLUSIVE"
    assert "holds the limit of +5 %" in verdict.reason
    assert verdict.more is not None
    assert "needs" in describe(verdict)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ((10.0,), STEADY, "A has 1 repeat"),
        (STEADY, (20.0,), "B has 1 repeat"),
        (STEADY, (), "B has no repeat"),
        ((), (), "A has no repeat.*B has no repeat"),
        (STEADY, (10.0, None, 10.0), "undefined in 1 of 3 repeats of B"),
        ((None, None), STEADY, "undefined in 2 of 2 repeats of A"),
        ((0.0, 0.0), (0.0, 0.0), "0 in A, and a ratio needs"),
        (STEADY, (-1.0, 2.0), "-1 in B"),
    ],
)
def test_what_cannot_be_tested_never_passes(
    a: tuple[float | None, ...], b: tuple[float | None, ...], told: str
) -> None:
    verdict = only(runs(*a), runs(*b))
    assert verdict.outcome == "INCONCLUSIVE"
    assert verdict.ratio is None
    assert re.search(told, verdict.reason)
    assert describe(verdict)


def test_metric_that_no_run_has_is_undefined() -> None:
    assert "undefined in 5 of 5" in only(runs(*STEADY), runs(*STEADY), "goodput<-5%").reason


def test_failed_requests_of_b_take_its_pass_away_but_no_fail() -> None:
    fast, slow = runs(*times(0.5), failed=2), runs(*times(2.0), failed=2)
    verdict = only(runs(*STEADY), fast)
    assert verdict.outcome == "INCONCLUSIVE"
    assert "10 of 40 requests of B failed and 0 of 40 of A" in verdict.reason
    assert verdict.more is None
    assert only(runs(*STEADY), slow).outcome == "FAIL"
    assert only(runs(*STEADY, failed=2), fast).outcome == "PASS"


def test_whole_fails_over_inconclusive_over_pass() -> None:
    def outcome(*factors: float) -> str:
        names = ("tpot_ms.p50", "ttft_ms.p50", "e2e_ms.p50")
        a = [replace(run, metrics=dict.fromkeys(names, STEADY[i])) for i, run in enumerate(base)]
        b = [
            replace(
                run,
                metrics={
                    n: STEADY[i] * f * (1 if f < 2 else math.exp((-1) ** i))
                    for n, f in zip(names, factors, strict=True)
                },
            )
            for i, run in enumerate(base)
        ]
        return compare(a, b, rules_of("tpot.p50>+5%,ttft.p50>+5%,e2e.p50>+5%")).outcome

    base = runs(*STEADY)
    assert outcome(1.0, 1.0, 1.0) == "PASS"
    assert outcome(1.0, 2.0, 1.0) == "INCONCLUSIVE"
    assert outcome(1.0, 2.0, 1.2) == "FAIL"


def test_rule_past_its_limit_alone_but_not_among_many_says_so() -> None:
    a, b = (10.0, 10.1, 9.9, 10.2), (10.7, 11.0, 10.6, 10.9)
    assert only(runs(*a), runs(*b)).outcome == "FAIL"
    many = "tpot.p50>+5%,ttft.p50>+5%,e2e.p50>+5%,itl.p50>+5%,norm.p50>+5%"
    first, *_ = compare(runs(*a), runs(*b), rules_of(many)).verdicts
    assert first.outcome == "INCONCLUSIVE"
    assert "Holm" in first.reason


def test_rules_look_at_the_runs_of_their_mode_only() -> None:
    slow = [replace(run, mode="serve") for run in runs(*times(2.0))]
    both = compare(
        [*runs(*STEADY), *(replace(run, mode="serve") for run in runs(*STEADY))],
        [*runs(*STEADY), *slow],
        rules_of("tpot.p50>+5%,serve:tpot.p50>+5%"),
    )
    assert [verdict.outcome for verdict in both.verdicts] == ["PASS", "FAIL"]


def test_interval_decides_as_the_outcome_says() -> None:
    for factor in (0.9, 1.0, 1.04, 1.05, 1.06, 1.2):
        verdict = only(runs(*STEADY), runs(*times(factor)))
        assert verdict.low is not None
        assert verdict.high is not None
        expected = "FAIL" if verdict.low > 1.05 else "PASS" if verdict.high <= 1.05 else None
        assert verdict.outcome == (expected or "INCONCLUSIVE")


def test_comparison_without_rules_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="expected rules"):
        compare(runs(*STEADY), runs(*STEADY), ())


def test_json_form_says_the_verdict_the_numbers_and_the_power() -> None:
    comparison = compare(runs(*STEADY), runs(*times(1.1)), rules_of("tpot.p50>+5%"))
    data = to_dict(comparison)
    assert data["verdict"] == "FAIL"
    assert isinstance(data["power"], list)
    assert len(data["power"]) == 18
    assert "past the limit of 1 of 1 rule" in conclusion(comparison)


def test_interleaved_order_has_each_pair_once_a_block_and_no_favourite() -> None:
    for num_repeats in (1, 2, 5, 6):
        for seed in range(20):
            order = interleaved_order(num_repeats, seed)
            assert all(sorted(block) == ["A", "B"] for block in order)
            assert len(order) == num_repeats
            first = [block[0] for block in order]
            assert abs(first.count("A") - first.count("B")) == num_repeats % 2
    assert interleaved_order(6, 1) == interleaved_order(6, 1)
    assert len({interleaved_order(6, seed) for seed in range(20)}) > 5
    assert {interleaved_order(1, seed)[0][0] for seed in range(20)} == {"A", "B"}
