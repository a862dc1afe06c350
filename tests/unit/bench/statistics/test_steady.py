import pytest

from neuronc.bench.statistics.steady import find_steady, tokens_inside


def _closed_loop(slots: int, rounds: int, length: int, gap: int = 0) -> list[tuple[int, int]]:
    """Each slot serves a request after another, ``gap`` ns apart, all in step."""
    return [
        (k * (length + gap), k * (length + gap) + length)
        for k in range(rounds)
        for _ in range(slots)
    ]


def test_ramp_and_drain_are_outside() -> None:
    first = [(i * 100, i * 100 + 100) for i in range(20)]  # 0 to 2000
    second = [(i * 100 + 500, i * 100 + 600) for i in range(12)]  # 500 to 1700
    found = find_steady([*first, *second])
    assert (found.peak, found.window, found.reason) == (2, (500, 1700), None)


def test_one_request_after_another_is_steady_throughout() -> None:
    found = find_steady(_closed_loop(slots=4, rounds=12, length=1000))
    assert (found.peak, found.window) == (4, (0, 12_000))


def test_a_dip_between_two_requests_does_not_end_the_window() -> None:
    assert find_steady(_closed_loop(4, 12, 1000, gap=10)).window == (0, 12_110)
    assert find_steady(_closed_loop(4, 12, 1000, gap=11)).window is None


def test_eight_tenths_of_the_peak_is_enough() -> None:
    base = _closed_loop(slots=4, rounds=12, length=1000)
    assert find_steady([*base, (0, 1000)]).window == (0, 12_000)  # 4 of a peak of 5
    assert find_steady([*base, (0, 1000), (0, 1000)]).window is None  # 4 of 6


def test_a_window_of_few_requests_is_refused() -> None:
    assert find_steady(_closed_loop(2, 10, 1000)).window == (0, 10_000)
    found = find_steady(_closed_loop(2, 9, 1000))
    assert (found.window, found.peak) == (None, 2)
    assert found.reason == (
        "the longest time near peak concurrency (2) is 9.0 times a request's mean, less than 10; "
        "try about 24 requests or more"
    )


def test_a_small_part_of_the_run_is_refused() -> None:
    alone = [(i * 100, i * 100 + 100) for i in range(71)]
    double = [(7100 + i * 100, 7200 + i * 100) for i in range(29) for _ in range(2)]
    found = find_steady([*alone, *double])
    assert found.window is None
    assert found.reason is not None
    assert found.reason.startswith("the longest time near peak concurrency (2) is 29% of the run")
    assert find_steady([*alone[4:], *double]).window == (7100, 10_000)  # 29 of 96


@pytest.mark.parametrize("intervals", [[], [(5, 5)]])
def test_nothing_in_flight_has_no_window(intervals: list[tuple[int, int]]) -> None:
    assert find_steady(intervals).window is None


def test_tokens_are_counted_from_the_start_to_before_the_end() -> None:
    times = [(1, 2, 3, 4), (2, 4), ()]
    assert tokens_inside(times, (2, 4)) == 3
    assert tokens_inside(times, (2, 5)) == 5
    assert tokens_inside(times, (9, 10)) == 0
