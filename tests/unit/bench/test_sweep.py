import pytest

from neuronc.bench.modes.sweep import Point, find_best, find_knee, kept_up
from tests.unit.bench.fake_engine import make_record, make_timeline


def point(at: float, *, kept: float = 1.0, tokens: float = 0.0, good: int = 100) -> Point:
    return Point(at=at, kept_up=kept, output_tokens_per_s=tokens, good=good, sent=100)


def test_knee_by_rate_is_the_last_rate_that_is_kept_up_with() -> None:
    points = [point(1), point(2, kept=0.98), point(4, kept=0.6), point(8, kept=0.3)]
    knee = find_knee(points, "rate")
    assert knee is not None
    assert knee.at == 2
    assert knee.why == "at 4 a second, first tokens come at 60% of it"
    assert find_knee(points[:2], "rate") is None


def test_knee_by_concurrency_is_where_throughput_stops_growing() -> None:
    points = [point(1, tokens=10), point(2, tokens=18), point(4, tokens=30), point(8, tokens=31)]
    knee = find_knee(points, "concurrency")
    assert knee is not None
    assert knee.at == 4
    assert "+3.3%" in knee.why
    assert find_knee(points[:3], "concurrency") is None


@pytest.mark.parametrize(
    ("goods", "best"),
    [((100, 99, 98, 10), 2.0), ((98, 100, 100, 100), None), ((100, 100, 100, 100), 4.0)],
)
def test_best_is_the_largest_load_below_the_first_miss(
    goods: tuple[int, ...], best: float | None
) -> None:
    points = [point(at, good=good) for at, good in zip((1.0, 2.0, 3.0, 4.0), goods, strict=True)]
    found = find_best(points, 0.99)
    assert (None if found is None else found.at) == best


def test_engine_that_serves_as_fast_as_requests_come_keeps_up() -> None:
    on_time = make_timeline(*(make_record(t, t + 50, t + 900) for t in (0, 100, 200)))
    behind = make_timeline(*(make_record(t, 50 + 2 * t, 900) for t in (0, 100, 200)))
    assert kept_up([on_time]) == 1.0
    assert kept_up([behind]) == 0.5
    assert kept_up([on_time, behind]) == pytest.approx(400 / 600)
    assert kept_up([make_timeline(make_record(0, 9))]) == 1.0


def test_where_every_request_fails_the_engine_does_not_keep_up() -> None:
    failed = [make_record(t, t + 5, finish="failed") for t in (0, 100, 200)]
    assert kept_up([make_timeline(*failed)]) == 0.0
    assert kept_up([make_timeline(make_record(0, 9), *failed)]) == 0.25
    assert kept_up([make_timeline()]) == 1.0


def test_no_knee_where_the_first_rate_is_too_much() -> None:
    assert find_knee([point(4, kept=0.6), point(8, kept=0.3)], "rate") is None


def test_a_load_without_a_good_request_is_never_the_best() -> None:
    nothing = Point(at=1, kept_up=1.0, output_tokens_per_s=0.0, good=0, sent=0)
    assert find_best([nothing], 0.99) is None
