import time

import numpy as np
import pytest

from neuronc.bench.statistics.bootstrap import (
    MAX_SAMPLES,
    _percentiles,
    bootstrap,
    percentile_bounds,
)
from neuronc.bench.statistics.distribution import describe


def _requests(random: np.random.Generator, num: int, gaps: int) -> list[list[float]]:
    """Requests whose gaps have a level in common: sd 1 between requests, 0.2 within."""
    levels = random.normal(10, 1, size=num)
    return [random.normal(level, 0.2, size=gaps).tolist() for level in levels]


@pytest.mark.parametrize("q", [None, 0.5])
def test_covers_where_an_interval_of_single_gaps_does_not(q: float | None) -> None:
    random, blocked, pooled = np.random.default_rng(3), 0, 0
    for seed in range(200):
        requests = _requests(random, 40, 30)
        found = bootstrap(requests, q, seed=seed, resamples=300)
        assert found.low is not None
        assert found.high is not None
        blocked += found.low <= 10 <= found.high
        single = describe([gap for gaps in requests for gap in gaps])
        assert single is not None
        p50 = single.percentiles["p50"]
        assert p50.low is not None
        assert p50.high is not None
        pooled += p50.low <= 10 <= p50.high
    assert 178 <= blocked <= 199  # 95 % of 200 is 190, standard error 3
    assert pooled < 100


def test_value_is_of_the_gaps_as_they_are() -> None:
    blocks = [[1.0, 2.0], [], [3.0]]
    assert bootstrap(blocks, None).value == 2.0
    assert bootstrap(blocks, 0.5).value == 2.0
    assert bootstrap(blocks, 0.75).value == 2.5
    assert (bootstrap(blocks, 0.5).n, bootstrap(blocks, 0.5).blocks) == (3, 2)


def test_percentile_of_a_resample_is_numpys() -> None:
    """The draws are known, so each resample can be written out."""
    random = np.random.default_rng(0)
    blocks = [random.integers(0, 50, size=i + 1).astype(float) for i in range(10)]
    drawn = np.random.default_rng(5).multinomial(10, [0.1] * 10, size=40)
    rows = [np.concatenate([np.tile(blocks[i], row[i]) for i in range(10)]) for row in drawn]
    expected = [np.quantile(row, 0.3) for row in rows]
    found = list(_percentiles(blocks, [0.3, 1.0], np.random.default_rng(5), 40))
    np.testing.assert_allclose(np.concatenate(found)[:, 0], expected)
    np.testing.assert_allclose(np.concatenate(found)[:, 1], [row.max() for row in rows])


def test_failures_are_above_all_others_and_no_end_is_undefined() -> None:
    blocks = [[1.0], [2.0], [3.0], [np.inf]] * 5
    bounds = percentile_bounds(blocks, [0.0, 0.5, 0.9, 1.0], resamples=200)
    assert not np.isnan(bounds).any()
    assert bounds[1][0] == 1.0 or bounds[1][0] == 2.0
    assert bounds[1][1] < np.inf
    assert bounds[2][1] == np.inf


def test_few_requests_or_gaps_have_no_interval_and_a_reason() -> None:
    nine = bootstrap([[1.0] * 100] * 9, 0.5)
    assert (nine.value, nine.low) == (1.0, None)
    assert nine.reason == "resampling needs 10 requests that have samples; there are 9"
    tail = bootstrap([[1.0] * 10] * 20, 0.99)
    assert tail.reason == "a 95% interval of p99 needs 368 samples; there are 200"
    none = bootstrap([[], []], 0.5)
    assert (none.value, none.n, none.reason) == (None, 0, "no samples")


def test_same_seed_gives_the_same_interval() -> None:
    requests = _requests(np.random.default_rng(0), 20, 30)
    assert bootstrap(requests, 0.5, seed=1) == bootstrap(requests, 0.5, seed=1)
    assert bootstrap(requests, 0.5, seed=1) != bootstrap(requests, 0.5, seed=2)


def test_thinning_bounds_the_cost_and_hardly_moves_the_interval() -> None:
    requests = _requests(np.random.default_rng(0), 100, 8 * MAX_SAMPLES // 100)
    begin = time.process_time()
    found = bootstrap(requests, 0.5)
    took_s = time.process_time() - begin
    means = [float(np.median(gaps)) for gaps in requests]
    exact = bootstrap([[mean] * 9 for mean in means], 0.5)
    assert found.low == pytest.approx(exact.low, abs=0.05)
    assert found.high == pytest.approx(exact.high, abs=0.05)
    assert took_s < 5  # CPU seconds; a tenth of them on an idle core
