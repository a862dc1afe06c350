"""What does not fit the time budget is refused before anything runs, with what would fit."""

import io
import itertools
from dataclasses import replace

import pytest

from neuronc.bench.modes.time_needed import Needed, require_time
from neuronc.bench.settings import Settings
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.workload import Trace, Workload
from neuronc.cli.progress import LineProgress
from neuronc.errors import UsageError
from tests.unit.bench.fake_engine import FakeBench, lengths

SLOW = Settings(modes=("serve",), workload=lengths(3, 3), rates=(0.001,))


def trace(count: int, gap_s: float | None = None) -> Workload:
    shapes = tuple(
        RequestShape(
            prompt_tokens=3, new_tokens=3, arrival_s=None if gap_s is None else gap_s * number
        )
        for number in range(count)
    )
    return Workload(joint=Trace(name="t.jsonl", shapes=shapes))


def needed(**fields: float) -> Needed:
    given = {"num_requests": 10, "arriving_s": 0.0, "running_s": 0.0, **fields}
    return Needed(name="serve", **given)  # type: ignore[arg-type]


def test_a_schedule_longer_than_the_budget_is_refused_before_any_run() -> None:
    fake = FakeBench()
    with pytest.raises(UsageError, match=r"serve at 0\.001 a second") as refused:
        fake.measure(SLOW)
    assert fake.engines == []
    assert "requests of a run arrive over" in refused.value.message
    assert "--time-budget" in refused.value.hint
    assert "--rate" in refused.value.hint


def test_a_run_limit_ends_the_schedule_early_so_it_fits() -> None:
    measured = FakeBench().measure(replace(SLOW, run_limit_s=5.0, repeats=1))
    assert len(measured.runs[0].timelines) == 1


def test_repeats_that_were_asked_for_count() -> None:
    runs = [needed(arriving_s=25.0)]
    require_time(runs, repeats=2, budget_s=60)
    with pytest.raises(UsageError, match=r"over 25 s at least 3 times, and 60 s"):
        require_time(runs, repeats=3, budget_s=60)


def test_all_loads_of_a_sweep_count_together() -> None:
    runs = [needed(arriving_s=25.0), needed(arriving_s=40.0)]
    with pytest.raises(UsageError, match=r"over 40 s at least \(with all others, 65 s\)"):
        require_time(runs, repeats=1, budget_s=60)


def test_requests_asked_for_by_number_may_run_longer_than_thought() -> None:
    require_time([needed(running_s=900.0)], repeats=1, budget_s=60)
    with pytest.raises(UsageError, match="a run of the trace's 10 requests takes 900 s"):
        require_time([needed(running_s=900.0, whole_trace=True)], repeats=1, budget_s=60)


@pytest.mark.parametrize(("num_artifacts", "enough"), [(1, 315), (2, 615)])
def test_the_budget_that_is_named_is_for_all_artifacts(num_artifacts: int, enough: int) -> None:
    runs = [needed(arriving_s=250.0)]
    with pytest.raises(UsageError) as refused:
        require_time(runs, repeats=1, budget_s=60, num_artifacts=num_artifacts)
    assert f"--time-budget {enough}, " in refused.value.hint


def test_a_whole_trace_longer_than_the_budget_names_how_many_requests_fit() -> None:
    settings = Settings(modes=("serve",), arrival=None, workload=trace(100, gap_s=1.0))
    with pytest.raises(UsageError, match="the 100 requests of a run arrive over 99 s") as refused:
        FakeBench().measure(settings)
    assert "--requests 60 runs the first ones" in refused.value.hint
    assert "--time-budget 134 all of them" in refused.value.hint
    found = FakeBench().measure(replace(settings, num_requests=60, repeats=1))
    assert len(found.runs[0].timelines[0].requests) == 60


def test_a_trace_without_arrivals_is_held_against_the_programs_times() -> None:
    settings = Settings(modes=("latency",), workload=trace(5000), time_budget_s=1e-3)
    with pytest.raises(UsageError, match="a run of the trace's 5000 requests takes"):
        FakeBench().measure(settings)


def test_who_waits_for_arrivals_is_told_how_long() -> None:
    told, ticks = io.StringIO(), itertools.count(step=100.0)
    settings = replace(SLOW, rates=(0.5,), num_requests=8, repeats=1)
    fake = FakeBench()
    timeline = (
        fake.measure(settings, progress=LineProgress(told, clock=lambda: next(ticks)))
        .runs[0]
        .timelines[0]
    )
    text = told.getvalue()
    last_s = (timeline.requests[-1].sched_ns - timeline.begin_ns) / 1e9
    assert f"measuring serve (one run: {last_s:,.0f} s or more)" in text
    assert "serve: 1 of 8 requests sent, " in text
    assert " s left in this run" in text
    assert max(fake.clock.slept_s) <= 1.0
