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


def test_an_end_that_no_time_can_have_is_cut_and_said() -> None:
    made = estimate([1.0, 9.0], least=0.0)
    assert made.low == 0.0
    assert made.high == pytest.approx(5 + 12.7062 * 4, rel=1e-4)
    assert made.relative_half_width == pytest.approx(12.7062 * 4 / 5, rel=1e-4)
    assert made.reason == (
        "repeats are too few and too far apart: the lower end, -45.82, was cut at 0"
    )
    assert estimate([9.0, 11.0, None], least=0.0).reason == (
        "undefined in 1 of 3 repeats; repeats are too few and too far apart: the lower end, -2.706,"
        " was cut at 0"
    )
    share = estimate([0.2, 0.9], least=0.0, most=1.0)
    assert (share.low, share.high) == (0.0, 1.0)
    assert "the upper end" in (share.reason or "")
    assert estimate([9.9, 10.1], least=0.0).reason is None
    assert estimate([1 + 1e-12, 1.0], most=1.0).value == pytest.approx(1)  # rounded
    with pytest.raises(ValueError, match="from -1"):
        estimate([-1.0, 2.0], least=0.0)


def test_cutting_takes_no_truth_away() -> None:
    random, below = np.random.default_rng(1), 0
    for _ in range(500):
        values = random.gamma(1.0, 5.0, size=3).tolist()
        whole, cut = estimate(values), estimate(values, least=0.0)
        assert None not in (whole.low, whole.high, cut.low, cut.high)
        below += (whole.low or 0) < 0
        assert (cut.low or 0) >= 0
        assert ((whole.low or 0) <= 5 <= (whole.high or 0)) == (
            (cut.low or 0) <= 5 <= (cut.high or 0)
        )
    assert below > 100  # else the test shows nothing
