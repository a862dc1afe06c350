import math
import random

import pytest
from scipy import stats

from neuronc.bench.compare import repeats, student_t
from neuronc.bench.compare.holm import holm_adjusted, holm_levels
from neuronc.bench.compare.repeats import CAP, more_repeats
from neuronc.bench.compare.welch import (
    Difference,
    chance_beyond,
    compare_logs,
    difference_of,
    margin,
)

A, B = (10.0, 10.4, 9.9, 10.1, 10.2), (11.0, 11.9, 10.6)


def test_difference_is_scipys_welch_test_on_logarithms() -> None:
    found = compare_logs(A, B)
    theirs = stats.ttest_ind(
        [math.log(b) for b in B], [math.log(a) for a in A], equal_var=False, alternative="greater"
    )
    assert found.df == pytest.approx(theirs.df)
    assert found.mean / found.standard_error == pytest.approx(theirs.statistic)
    assert chance_beyond(found, 0.0) == pytest.approx(theirs.pvalue)
    low = theirs.confidence_interval(0.95).low
    assert found.mean - margin(found, 0.05) == pytest.approx(low)


def test_ratio_does_not_depend_on_the_unit() -> None:
    found, scaled = compare_logs(A, B), compare_logs([1e3 * a for a in A], [1e3 * b for b in B])
    assert scaled.mean == pytest.approx(found.mean)
    assert scaled.df == pytest.approx(found.df)


def test_runs_without_spread_are_certain() -> None:
    found = compare_logs((2.0, 2.0), (3.0, 3.0))
    assert found.df == math.inf
    assert margin(found, 0.05) == 0.0
    assert chance_beyond(found, math.log(1.4)) == 0.0
    assert chance_beyond(found, math.log(1.6)) == 1.0


def test_spread_of_one_side_only_has_its_degrees_of_freedom() -> None:
    assert compare_logs((2.0, 2.0), (3.0, 3.1, 3.2, 2.9)).df == pytest.approx(3.0)


def test_student_t_with_infinite_degrees_of_freedom_is_the_normal() -> None:
    assert student_t.upper_tail(1.6448536, math.inf) == pytest.approx(0.05)
    assert student_t.upper_quantile(0.05, math.inf) == pytest.approx(1.6448536)
    assert student_t.upper_tail(student_t.upper_quantile(0.05, 3.7), 3.7) == pytest.approx(0.05)


def test_holm_tests_the_smallest_hardest_and_stops_at_the_first_kept() -> None:
    # .01 <= .05/3, .03 > .05/2: the last is kept at that level, though .03 <= .05
    assert holm_levels([0.03, 0.01, 0.04], 0.05) == pytest.approx([0.025, 0.05 / 3, 0.025])
    assert holm_levels([0.001, 0.002, 0.04], 0.05) == pytest.approx([0.05 / 3, 0.025, 0.05])
    assert holm_adjusted([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_levels_and_adjusted_chances_decide_alike() -> None:
    draw = random.Random(0)
    for _ in range(300):
        chances = [draw.random() ** 3 for _ in range(draw.randint(1, 6))]
        by_level = [p <= at for p, at in zip(chances, holm_levels(chances, 0.05), strict=True)]
        assert by_level == [p <= 0.05 for p in holm_adjusted(chances)]


def more(difference: Difference, limit: float = math.log(1.05)) -> tuple[int | None, int | None]:
    found = more_repeats(difference, limit, level_of_fail=0.05, level_of_pass=0.05)
    return found.likely, found.even


def test_more_repeats_grow_with_the_spread_and_near_the_limit() -> None:
    def needed(mean: float, sd: float) -> int:
        likely = more(difference_of(mean, sd**2, sd**2, 5, 5))[0]
        assert likely is not None
        return likely

    assert needed(0.02, 0.03) < needed(0.02, 0.05)
    assert needed(0.01, 0.04) < needed(0.02, 0.04)
    assert needed(0.09, 0.04) < needed(0.08, 0.04)


def test_more_repeats_on_the_limit_itself_are_more_than_the_cap_in_words() -> None:
    found = more_repeats(
        difference_of(math.log(1.05), 0.03**2, 0.03**2, 5, 5),
        math.log(1.05),
        level_of_fail=0.05,
        level_of_pass=0.05,
    )
    assert found.likely is None
    assert found.text.startswith(f"more than {CAP} more repeats")


def test_more_repeats_are_the_first_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chance grows with the number of runs, so halving finds what counting would."""
    chances: dict[int, float] = {}
    real = repeats._chance_to_decide

    def watched(now: Difference, later: Difference, fails: float, passes: float) -> float:
        chances[later.n_a - now.n_a] = real(now, later, fails, passes)
        return chances[later.n_a - now.n_a]

    monkeypatch.setattr(repeats, "_chance_to_decide", watched)
    draw = random.Random(3)
    for _ in range(30):
        sd, n = draw.uniform(0.01, 0.05), draw.randint(2, 6)
        now = difference_of(draw.uniform(0, 0.1), sd**2, sd**2, n, n)
        likely, even = more(now)
        for count in range(1, (likely or CAP) + 1):
            later = now.with_repeats(count)
            watched(
                now,
                later,
                math.log(1.05) + margin(later, 0.05),
                math.log(1.05) - margin(later, 0.05),
            )
        counted = sorted(chances)
        assert likely == next((k for k in counted if chances[k] >= 0.8), None)
        assert even == next((k for k in counted if chances[k] >= 0.5), None)
        chances.clear()
