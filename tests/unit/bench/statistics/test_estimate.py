import numpy as np
import pytest

from neuronc.bench.statistics.estimate import estimate, wilson


def test_interval_is_students() -> None:
    made = estimate([9.0, 10.0, 11.0])  # s = 1, t(2) = 4.3027
    assert (made.value, made.n, made.reason) == (10.0, 3, None)
    half = 4.302653 / 3**0.5
    assert (made.low, made.high) == pytest.approx((10 - half, 10 + half))
    assert made.relative_half_width == pytest.approx(half / 10)


def test_covers_the_mean_as_often_as_promised() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        made = estimate(random.normal(5, 1, size=4).tolist())
        assert made.low is not None
        assert made.high is not None
        covered += made.low <= 5 <= made.high
    assert 930 <= covered <= 970


@pytest.mark.parametrize(
    ("values", "value", "reason"),
    [
        ([], None, "no repeats"),
        ([None, None], None, "undefined in every repeat"),
        ([4.0], 4.0, "one repeat has no spread to tell an interval from; 2 or more have"),
    ],
)
def test_too_few_repeats_have_no_interval(
    values: list[float | None], value: float | None, reason: str
) -> None:
    made = estimate(values)
    assert (made.value, made.low, made.high) == (value, None, None)
    assert (made.relative_half_width, made.reason) == (None, reason)


def test_repeats_without_a_value_are_left_out_and_said() -> None:
    made = estimate([9.0, None, 10.0, 11.0])
    assert (made.n, made.value) == (3, 10.0)
    assert made.reason == "undefined in 1 of 4 repeats"


def test_equal_repeats_have_an_interval_of_no_width() -> None:
    made = estimate([2.0, 2.0])
    assert (made.low, made.high, made.relative_half_width) == (2.0, 2.0, 0.0)
    assert estimate([0.0, 0.0]).relative_half_width is None
    assert estimate([-1.0, -3.0]).relative_half_width == pytest.approx(12.7062 / 2, rel=1e-4)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        estimate([1.0, float("nan")])


def test_estimate_has_the_agreed_keys() -> None:
    assert list(estimate([1.0, 2.0]).to_dict()) == [
        "value", "low", "high", "n", "confidence", "relative_half_width", "reason",
    ]  # fmt: skip


def test_wilson_is_the_published_example() -> None:
    """Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662; 1 of 29 is 0.0061 to 0.1718."""
    made = wilson(81, 263)
    assert (made.low, made.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    rare = wilson(1, 29)
    assert (rare.low, rare.high) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_at_the_ends() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert none.low == 0.0
    assert none.high == pytest.approx(0.1611, abs=5e-5)
    assert (every.attainment, every.high) == (1.0, 1.0)
    assert every.low == pytest.approx(0.8389, abs=5e-5)
    nothing = wilson(0, 0)
    assert (nothing.attainment, nothing.low, nothing.high) == (None, None, None)
    with pytest.raises(ValueError, match="good=3, sent=2"):
        wilson(3, 2)
