"""Intervals of pooled percentiles, held against simulations whose truth is known."""

import math

import numpy as np
import pytest

from neuronc.bench.statistics.distribution import PERCENTILES, Distribution, describe
from neuronc.bench.statistics.pooled import describe_requests, describe_steps

QS = {"p50": 0.5, "p90": 0.9}
Repeats = list[list[list[float]]]


def simulate(
    random: np.random.Generator,
    *,
    requests: int = 60,
    repeats: int = 3,
    between: float = 0.3,
    run: float = 0.0,
    noise: float = 0.05,
) -> Repeats:
    """Log-normal times: a level of each request, one of each run, and noise; sds of logarithms."""
    levels, runs = random.normal(0, between, requests), random.normal(0, run, repeats)
    logs = levels[None, :] + runs[:, None] + random.normal(0, noise, (repeats, requests))
    return [[[value] for value in row] for row in np.exp(logs).tolist()]


def truth(q: float, *sds: float) -> float:
    from statistics import NormalDist

    return math.exp(NormalDist(0, math.hypot(*sds)).inv_cdf(q))


def covers(found: Distribution | None, name: str, true: float) -> bool:
    assert found is not None
    percentile = found.percentiles[name]
    assert percentile.low is not None
    assert percentile.high is not None
    return percentile.low <= true <= percentile.high


@pytest.mark.parametrize(
    ("between", "run", "noise", "least"),
    [
        (0.3, 0.0, 0.05, 0.92),  # 95 % with a standard error of 1.8 %
        (0.3, 0.1, 0.05, 0.92),
        (0.02, 0.1, 0.05, 0.87),  # three runs that differ more than requests have no tail of runs
    ],
)
def test_covers_where_an_interval_of_independent_samples_does_not(
    between: float, run: float, noise: float, least: float
) -> None:
    random, pairs = np.random.default_rng(1), 150
    honest, naive = dict.fromkeys(QS, 0), dict.fromkeys(QS, 0)
    for _ in range(pairs):
        repeats = simulate(random, between=between, run=run, noise=noise)
        found = describe_requests(repeats, open_loop=False)
        alone = describe([v for one in repeats for request in one for v in request])
        for name, q in QS.items():
            true = truth(q, between, run, noise)
            honest[name] += covers(found, name, true)
            naive[name] += covers(alone, name, true)
    assert min(honest.values()) >= least * pairs, honest
    assert min(naive.values()) < 0.88 * pairs, naive


def test_an_interval_is_no_wider_than_it_has_to_be() -> None:
    random, pairs = np.random.default_rng(2), 60
    for repeats, most in ((1, 1.2), (5, 1.6)):
        widths = []
        for _ in range(pairs):
            found = describe_requests(simulate(random, repeats=repeats), open_loop=False)
            p50 = found.percentiles["p50"] if found else None
            assert p50 is not None
            assert p50.low is not None
            assert p50.high is not None
            widths.append(p50.high - p50.low)
        ideal = 2 * 1.96 * 1.2533 * 0.3 / math.sqrt(60)  # the median of 60 normal logarithms
        assert float(np.mean(widths)) < most * ideal


def test_neighbours_of_an_open_loop_are_drawn_together() -> None:
    """A queue that builds up and drains: levels follow each other closely."""
    random, pairs, q = np.random.default_rng(3), 120, "p50"
    kept, apart = 0, 0
    for _ in range(pairs):
        levels = [random.normal(0, 1)]
        for _ in range(199):
            levels.append(0.7 * levels[-1] + random.normal(0, math.sqrt(1 - 0.49)))
        repeats = [[[math.exp(0.2 * level)] for level in levels]]
        kept += covers(describe_requests(repeats, open_loop=True), q, 1.0)
        apart += covers(describe_requests(repeats, open_loop=False), q, 1.0)
    assert kept >= 0.83 * pairs  # short of 95 %: longer queues than the blocks
    assert apart < kept - 0.1 * pairs


def test_value_and_all_but_the_intervals_are_of_the_samples_as_they_are() -> None:
    repeats = simulate(np.random.default_rng(0), requests=20)
    found = describe_requests(repeats, open_loop=False)
    plain = describe([v for run in repeats for request in run for v in request])
    assert found is not None
    assert plain is not None
    assert (found.n, found.mean, found.curve) == (60, plain.mean, plain.curve)
    assert [p.value for p in found.percentiles.values()] == [
        p.value for p in plain.percentiles.values()
    ]


def test_repeats_of_few_requests_are_no_more_requests() -> None:
    found = describe_requests([[[1.0], [2.0], [3.0]]] * 200, open_loop=False)
    assert found is not None
    p50 = found.percentiles["p50"]
    assert (p50.value, p50.low) == (2.0, None)
    assert p50.reason == (
        "a 95% interval of p50 needs 6 requests; there are 3, and repeats of one are no others"
    )
    found = describe_requests([[[1.0]] * 9] * 2, open_loop=False)
    assert found is not None
    reason = found.percentiles["p50"].reason
    assert reason == "resampling needs 10 blocks of requests; there are 9"


def test_failures_take_away_the_interval_that_reaches_them() -> None:
    run = [[float(number)] for number in range(1, 96)] + [[math.inf]] * 5
    found = describe_requests([run, run], open_loop=False)
    assert found is not None
    assert (found.n, found.failures) == (190, 10)
    assert found.percentiles["p50"].high is not None
    assert "falls among the 10 failed" in (found.percentiles["p95"].reason or "")
    assert found.percentiles["p95"].low is None
    assert describe_requests([[[math.inf]], [()]], open_loop=False) is None


def test_no_end_is_below_0() -> None:
    found = describe_requests([[[0.0]] * 30, [[3.0]] * 30], open_loop=False)
    assert found is not None
    assert found.percentiles["p50"].low == 0.0


def test_steps_that_follow_each_other_count_for_less() -> None:
    random, pairs = np.random.default_rng(4), 100
    kept, apart = 0, 0
    for _ in range(pairs):
        level, run = random.normal(0, 0.05), []
        for _ in range(400):
            level = 0.6 * level + 0.8 * random.normal(0, 0.05)
            run.append(10 * math.exp(level))
        kept += covers(describe_steps([run]), "p50", 10.0)
        apart += covers(describe(run), "p50", 10.0)
    assert kept >= 0.87 * pairs
    assert apart < kept - 0.08 * pairs
    assert describe_steps([[], []]) is None
    assert set(PERCENTILES) == set(describe_steps([[1.0]]).percentiles)  # type: ignore[union-attr]
