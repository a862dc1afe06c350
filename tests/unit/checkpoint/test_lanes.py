import threading
import time
from collections.abc import Callable

import pytest

from neuronc.checkpoint.lanes import MIN_BUDGET_BYTES, Lanes


def test_work_of_one_lane_is_done_in_order() -> None:
    done: list[int] = []
    with Lanes(budget_bytes=1 << 30, num_threads=3) as lanes:
        for number in range(200):
            lanes.submit(7, 1, lambda number=number: done.append(number))  # type: ignore[misc]
    assert done == list(range(200))


def test_different_lanes_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)
    with Lanes(budget_bytes=1 << 30, num_threads=2) as lanes:
        lanes.submit(0, 1, both.wait)
        lanes.submit(1, 1, both.wait)


@pytest.mark.parametrize("lanes_at_work", [(0, 2), (5, 1)])
def test_a_free_thread_takes_whichever_lane_waits(lanes_at_work: tuple[int, int]) -> None:
    both = threading.Barrier(2, timeout=20)
    with Lanes(budget_bytes=1 << 30, num_threads=2) as lanes:
        for lane in lanes_at_work:
            lanes.submit(lane, 1, both.wait)


def test_stopping_drops_what_waits_and_waits_for_what_runs() -> None:
    begun, gate, done = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        begun.set()
        gate.wait(20)
        done.append("what runs")

    lanes = Lanes(budget_bytes=1 << 20, num_threads=1)
    lanes.submit(0, 1, work)
    for lane in (0, 0, 1):
        lanes.submit(lane, 1, lambda: done.append("what waits"))
    begun.wait(20)
    threading.Timer(0.1, gate.set).start()
    lanes.stop()
    assert done == ["what runs"]


def test_no_more_waits_than_the_budget_allows() -> None:
    gate, waiting = threading.Event(), []
    half = MIN_BUDGET_BYTES // 2 + 1
    with Lanes(budget_bytes=MIN_BUDGET_BYTES, num_threads=1) as lanes:
        lanes.submit(0, half, gate.wait)

        def hand_over() -> None:
            lanes.submit(0, half, lambda: None)
            waiting.append("through")

        second = threading.Thread(target=hand_over)
        second.start()
        time.sleep(0.1)
        assert waiting == []
        gate.set()
        second.join(20)
    assert waiting == ["through"]


def test_what_is_larger_than_the_budget_goes_through_alone() -> None:
    with Lanes(budget_bytes=1) as lanes:
        lanes.submit(0, 10 * MIN_BUDGET_BYTES, lambda: None)


def _fail() -> None:
    message = "no room"
    raise OSError(message)


def _run(*jobs: Callable[[], object]) -> None:
    with Lanes(budget_bytes=1 << 20, num_threads=1) as lanes:
        for job in jobs:
            lanes.submit(0, 1, job)
        lanes.drain()


def test_an_error_comes_out_of_the_lanes() -> None:
    with pytest.raises(OSError, match="no room"):
        _run(_fail)


def test_after_an_error_nothing_more_is_done() -> None:
    done: list[int] = []
    with pytest.raises(OSError, match="no room"):
        _run(_fail, lambda: done.append(1))
    assert done == []


def test_stopped_lanes_take_nothing() -> None:
    lanes = Lanes(budget_bytes=1 << 20)
    lanes.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        lanes.submit(0, 1, lambda: None)
    with pytest.raises(RuntimeError, match="stopped"):
        lanes.__exit__(None, None, None)
