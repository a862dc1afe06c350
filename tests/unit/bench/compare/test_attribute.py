from dataclasses import replace

import pytest

from neuronc.bench.compare.attribute import BETWEEN, Attribution, attribute
from neuronc.bench.compare.runs import Run, StepTotals

STEPS = {"prefill/32": (8, 50.0), "decode/64": (200, 10.0), "decode/128": (48, 11.0)}


def make_run(
    steps: dict[str, tuple[int, float]] = STEPS, *, host_ms: float = 10.0, queue_ms: float = 0.0
) -> Run:
    """8 requests one at a time; ``host_ms`` of each lie between its steps."""
    totals = {
        name: StepTotals(count=count, total_ms=count * mean)
        for name, (count, mean) in steps.items()
        if count
    }
    run_ms = sum(total.total_ms for total in totals.values()) + 8 * host_ms
    metrics = {"queue_ms.mean": queue_ms, "e2e_ms.mean": run_ms / 8 + queue_ms}
    return Run(
        mode="latency", duration_s=run_ms / 1000, num_requests=8, metrics=metrics, steps=totals
    )


def found(a: Run, b: Run) -> Attribution:
    made = attribute([a, a], [b, b, b])
    assert made is not None
    return made


def test_slower_class_comes_first_with_its_ms_per_request() -> None:
    made = found(make_run(), make_run({**STEPS, "decode/64": (200, 12.0)}))
    first = made.contributions[0]
    assert first.name == "decode/64"
    assert first.share == pytest.approx(1.0)
    assert first.slower_ms == pytest.approx(200 / 8 * 2.0)
    assert first.ratio == pytest.approx(1.2)
    assert made.change_ms == pytest.approx(50.0)
    assert made.text == "mostly slower steps of decode/64: +50 ms"


def test_contributions_add_up_to_the_change_of_the_whole_run() -> None:
    a = make_run()
    b = make_run({"prefill/32": (9, 60.0), "decode/64": (190, 9.0), "decode/256": (70, 14.0)})
    assert a.duration_s is not None
    assert b.duration_s is not None
    expected = 1000 * (b.duration_s - a.duration_s) / 8
    assert found(a, b).change_ms == pytest.approx(expected)


def test_class_that_only_one_side_has_is_more_or_fewer_steps() -> None:
    made = found(make_run(), make_run({**STEPS, "decode/128": (0, 0.0), "decode/512": (48, 20.0)}))
    by_name = {one.name: one for one in made.contributions}
    assert by_name["decode/512"].more_steps_ms == pytest.approx(48 / 8 * 20.0)
    assert by_name["decode/512"].ratio is None
    assert made.text == "mostly more steps of decode/512: +120 ms"


def test_time_between_steps_is_named_when_it_is_to_blame() -> None:
    made = found(make_run(), make_run(host_ms=40.0))
    assert made.contributions[0].name == BETWEEN
    assert made.contributions[0].total_ms == pytest.approx(30.0)
    assert made.text.startswith("mostly not in the steps but between them: +30 ms")


def test_class_that_got_faster_has_a_negative_share_and_comes_last() -> None:
    b = make_run({**STEPS, "decode/64": (200, 12.0), "decode/128": (48, 10.0)})
    last = found(make_run(), b).contributions[-1]
    assert last.name == "decode/128"
    assert last.share == pytest.approx(-6.0 / 50.0)


def test_longer_queue_is_named_beside_the_steps() -> None:
    made = found(make_run(), make_run(queue_ms=300.0))
    assert made.queue_ms == pytest.approx(300.0)
    assert "wait 300 ms longer for a slot" in made.text


def test_open_loop_says_nothing_about_time_between_steps() -> None:
    a, b = (replace(make_run(host_ms=ms), open_loop=True) for ms in (10.0, 90.0))
    made = found(a, b)
    assert BETWEEN not in {one.name for one in made.contributions}
    assert made.text.startswith("no step class got slower")


def test_runs_without_steps_are_not_attributed() -> None:
    bare = replace(make_run(), steps={})
    assert attribute([bare], [bare]) is None
    assert attribute([], [bare]) is None
