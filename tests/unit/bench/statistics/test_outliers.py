import pytest

from neuronc.bench.statistics.outliers import find_outliers, outlier_findings

EVEN = [10.0, 10.1, 9.9, 10.2, 9.8]  # median 10, raw MAD 0.1, scale 0.14826


def test_score_is_in_scaled_median_absolute_deviations() -> None:
    values = [*EVEN, 10.0, 10.0 + 15 * 0.14826]
    (found,) = find_outliers(values)
    assert found.index == 6
    assert found.score == pytest.approx(15.0)
    assert find_outliers([*EVEN, 10.0, 10.0 + 14.8 * 0.14826]) == ()


def test_both_sides_count() -> None:
    assert [o.index for o in find_outliers([*EVEN, 5.0, 15.0])] == [5, 6]
    assert [o.score < 0 for o in find_outliers([*EVEN, 5.0, 15.0])] == [True, False]


def test_repeats_that_agree_to_the_digit_have_no_outlier_within_seven_percent() -> None:
    assert find_outliers([10.0] * 9 + [10.7]) == ()
    assert [o.index for o in find_outliers([10.0] * 9 + [10.8])] == [9]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 100.0], [0.0] * 5, [0.0, 0.0, 0.0, 1.0]])
def test_degenerate_values_have_no_outliers(values: list[float]) -> None:
    assert find_outliers(values) == ()


def test_a_slow_first_repeat_is_told_apart() -> None:
    (told,) = outlier_findings([20.0, *EVEN], what="tpot_ms.p50", unit="ms")
    assert told == (
        "the first repeat was much slower than the others: tpot_ms.p50 20 ms, median 10.05; "
        "it counts all the same; try more warm-up"
    )


def test_a_fast_first_repeat_is_not_called_slow() -> None:
    (told,) = outlier_findings([2.0, *EVEN], what="tpot_ms.p50", unit="ms")
    assert told.startswith("1 of 6 repeats stand apart in tpot_ms.p50: 2 (repeat 1) ms")


def test_a_slow_first_and_another_slow_one_are_told_each() -> None:
    first, other = outlier_findings([20.0, *EVEN, 30.0], what="x", unit="ms")
    assert first.startswith("the first repeat was much slower than the others: x 20 ms")
    assert other.startswith("1 of 7 repeats stand apart in x: 30 (repeat 7) ms")
    (late,) = outlier_findings([*EVEN, 30.0], what="x", unit="ms")
    assert late.startswith("1 of 6")


def test_of_a_rate_the_low_first_repeat_is_the_slow_one() -> None:
    (told,) = outlier_findings(
        [2.0, *EVEN], what="output_tokens_per_s", unit="tok/s", lower_is_slower=True
    )
    assert told.startswith("the first repeat was much slower")


def test_even_values_are_not_worth_a_word() -> None:
    assert outlier_findings(EVEN, what="x", unit="ms") == ()
