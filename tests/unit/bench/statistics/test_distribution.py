import json

import numpy as np
import pytest

from neuronc.bench.statistics.distribution import (
    MAX_CURVE_POINTS,
    PERCENTILES,
    describe,
    percentile,
)
from neuronc.bench.statistics.histogram import MAX_BINS
from neuronc.bench.statistics.quantiles import (
    binomial_cdf,
    order_statistic_ranks,
    samples_needed,
    samples_needed_above,
)


def test_percentiles_interpolate_linearly() -> None:
    made = describe([float(value) for value in range(11, 0, -1)])  # 1 to 11
    assert made is not None
    assert (made.n, made.mean, made.min, made.max) == (11, 6.0, 1.0, 11.0)
    assert made.sd == pytest.approx(11**0.5)  # 110 / 10
    found = [made.percentiles[name].value for name in ("p50", "p90", "p95", "p99", "p99_9")]
    assert found == pytest.approx([6.0, 10.0, 10.5, 10.9, 10.99])


def test_percentiles_are_numpys() -> None:
    values = np.random.default_rng(1).lognormal(size=1237)
    made = describe(values)
    assert made is not None
    for name, q in PERCENTILES.items():
        assert made.percentiles[name].value == pytest.approx(np.percentile(values, 100 * q))


def test_interval_of_the_median_of_ten_is_the_second_and_the_ninth() -> None:
    """The textbook case: 1 - 2 P(B <= 1) = 1 - 22/1024 = 97.9 %; third to eighth has 89 %."""
    made = describe([float(value) for value in range(1, 11)])
    assert made is not None
    assert (made.percentiles["p50"].low, made.percentiles["p50"].high) == (2.0, 9.0)


@pytest.mark.parametrize(("q", "needed", "above"), [(0.5, 6, 5), (0.99, 368, 299), (0.9, 36, 29)])
def test_samples_needed_are_the_published_ones(q: float, needed: int, above: int) -> None:
    assert (samples_needed(q, 0.95), samples_needed_above(q, 0.95)) == (needed, above)
    assert order_statistic_ranks(needed - 1, q, 0.95) is None
    ranks = order_statistic_ranks(needed, q, 0.95)
    assert ranks is not None
    assert ranks[1] == needed


def test_too_few_samples_have_no_interval_and_say_how_many_would_do() -> None:
    made = describe([1.0] * 367)
    assert made is not None
    p99 = made.percentiles["p99"]
    assert (p99.value, p99.low, p99.high) == (1.0, None, None)
    assert p99.reason == (
        "a 95% interval of p99 needs 368 samples (an upper bound alone 299); there are 367"
    )
    more = describe([1.0] * 368)
    assert more is not None
    assert more.percentiles["p99"].reason is None
    assert more.percentiles["p99_9"].reason is not None


@pytest.mark.parametrize(("n", "q"), [(10, 0.5), (36, 0.9), (400, 0.99), (5000, 0.999)])
def test_ranks_are_the_tightest_that_cover(n: int, q: float) -> None:
    ranks = order_statistic_ranks(n, q, 0.95)
    assert ranks is not None
    low, high = ranks
    assert binomial_cdf(low - 1, n, q) <= 0.025 < binomial_cdf(low, n, q)
    assert 1 - binomial_cdf(high - 1, n, q) <= 0.025 < 1 - binomial_cdf(high - 2, n, q)


@pytest.mark.parametrize(("name", "n"), [("p50", 20), ("p90", 60), ("p99", 500)])
def test_intervals_cover_the_truth_as_often_as_promised(name: str, n: int) -> None:
    """Of 1000 skewed samples at least 95 % bracket the true percentile, but not all do."""
    random, truth = np.random.default_rng(7), -np.log(1 - PERCENTILES[name])
    covered = 0
    for _ in range(1000):
        found = percentile(np.sort(random.standard_exponential(n)), PERCENTILES[name])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 938 <= covered <= 990  # 95 % less two standard errors of the count


def test_no_samples_have_no_distribution() -> None:
    assert describe([]) is None
    assert describe([], failures=3) is None


def test_one_sample_has_no_spread() -> None:
    made = describe([3.0])
    assert made is not None
    assert (made.sd, made.percentiles["p99"].value, made.curve) == (None, 3.0, ((0.0, 3.0),))
    assert made.histogram.counts == (1,)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        describe([1.0, bad])


def test_failures_lie_above_every_sample() -> None:
    made = describe([float(value) for value in range(1, 10)], failures=2)  # as 1 to 11
    assert made is not None
    assert (made.n, made.max, made.percentiles["p50"].value) == (9, 9.0, 6.0)
    p90 = made.percentiles["p90"]
    assert (p90.value, p90.reason) == (None, "falls among the 2 failed of 11")
    assert made.curve[-1] == pytest.approx((0.8, 9.0))
    assert made.to_dict()["failures"] == 2


def test_a_percentile_between_the_last_success_and_a_failure_is_none() -> None:
    made = describe([1.0, 2.0], failures=1)
    assert made is not None
    assert made.percentiles["p50"].value == 2.0  # exactly the middle one of three
    more = describe([1.0, 2.0], failures=2)
    assert more is not None
    assert more.percentiles["p50"].value is None


def test_an_interval_that_reaches_the_failures_is_none() -> None:
    made = describe(np.arange(995.0), failures=5)
    assert made is not None
    p99 = made.percentiles["p99"]
    assert p99.value == pytest.approx(989.01)
    assert (p99.low, p99.high) == (None, None)
    assert p99.reason == "the interval's upper end falls among the 5 failed of 1000"
    assert made.percentiles["p90"].reason is None


def test_document_has_the_agreed_keys_and_is_json() -> None:
    made = describe(np.random.default_rng(0).lognormal(size=5000))
    assert made is not None
    data = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert list(data) == ["n", "mean", "sd", "min", "max", "percentiles", "curve", "histogram"]
    assert list(data["percentiles"]) == ["p50", "p90", "p95", "p99", "p99_9"]
    assert list(data["percentiles"]["p50"]) == ["value", "low", "high", "reason"]


@pytest.mark.parametrize("n", [1, 2, 199, 200, 201, 100_000])
def test_curve_is_short_ascending_and_dense_at_the_tail(n: int) -> None:
    made = describe(np.random.default_rng(0).lognormal(size=n))
    assert made is not None
    qs, values = (np.array(column) for column in zip(*made.curve, strict=True))
    assert len(qs) <= MAX_CURVE_POINTS
    assert (np.diff(qs) > 0).all()
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[-1]) == (made.min, made.max)
    if n == 100_000:
        assert ((qs > 0.99) & (qs < 1)).sum() > 50


def test_histogram_counts_every_sample_and_keeps_the_body_visible_beside_a_stall() -> None:
    values = [*np.random.default_rng(0).normal(10, 1, size=1000), 5000.0]
    made = describe(values)
    assert made is not None
    edges, counts = made.histogram.edges, made.histogram.counts
    assert (sum(counts), len(edges)) == (1001, len(counts) + 1)
    assert len(counts) <= MAX_BINS
    assert (edges[0], edges[-1], counts[-1]) == (made.min, made.max, 1)
    assert sum(count > 0 for count in counts) > 20


@pytest.mark.parametrize("values", [[2.0] * 9, [1.0] * 8 + [4.0], [0.0, 0.0]])
def test_histogram_of_equal_samples_has_ascending_edges(values: list[float]) -> None:
    made = describe(values)
    assert made is not None
    assert (np.diff(made.histogram.edges) > 0).all()
    assert sum(made.histogram.counts) == len(values)
