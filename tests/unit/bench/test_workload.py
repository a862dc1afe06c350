from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench.workload import Workload, arrival_times_s, fit_workload, make_requests
from neuronc.errors import PlanError, UsageError

OPEN_LOOP = Workload(prompt_tokens=6, new_tokens=3, num_requests=5, rate=2.0)


def test_same_settings_give_the_same_requests() -> None:
    assert make_requests(OPEN_LOOP, 100) == make_requests(replace(OPEN_LOOP), 100)


def test_another_seed_gives_other_prompts_and_arrivals() -> None:
    here, there = (make_requests(replace(OPEN_LOOP, seed=seed), 1000) for seed in (0, 1))
    assert all(a.prompt_ids != b.prompt_ids for a, b in zip(here, there, strict=True))
    assert all(a.arrival_s != b.arrival_s for a, b in zip(here[1:], there[1:], strict=True))


def test_prompts_of_one_run_differ_from_each_other() -> None:
    assert len({request.prompt_ids for request in make_requests(OPEN_LOOP, 1000)}) == 5


@pytest.mark.parametrize(
    "change",
    [{"rate": 9.0}, {"new_tokens": 9}, {"num_requests": 9}, {"warmup_requests": 9}],
    ids=str,
)
def test_no_other_setting_shifts_the_prompts(change: dict[str, Any]) -> None:
    before, after = (make_requests(replace(OPEN_LOOP, **c), 1000) for c in ({}, change))
    assert [r.prompt_ids for r in after[:5]] == [r.prompt_ids for r in before]


@pytest.mark.parametrize("change", [{"prompt_tokens": 9}, {"num_requests": 9}], ids=str)
def test_no_other_setting_shifts_the_arrivals(change: dict[str, Any]) -> None:
    assert arrival_times_s(replace(OPEN_LOOP, **change))[:5] == arrival_times_s(OPEN_LOOP)


def test_arrivals_begin_at_zero_and_have_the_rate_on_average() -> None:
    arrivals = [t for t in arrival_times_s(replace(OPEN_LOOP, num_requests=5001)) if t is not None]
    assert arrivals[0] == 0.0
    assert arrivals == sorted(arrivals)
    # the sum of 5000 exponential gaps varies by 1.4 %; four of that never happens by seed
    assert arrivals[-1] == pytest.approx(5000 / 2.0, rel=0.057)


def test_closed_loop_has_no_arrivals() -> None:
    assert {r.arrival_s for r in make_requests(replace(OPEN_LOOP, rate=None), 10)} == {None}


def test_prompts_hold_no_forbidden_id() -> None:
    drawn = {token for r in make_requests(OPEN_LOOP, 6, {0, 2, 5}) for token in r.prompt_ids}
    assert drawn == {1, 3, 4}


def test_vocabulary_without_an_allowed_id_is_refused() -> None:
    with pytest.raises(PlanError, match="all 3 of the vocabulary are forbidden"):
        make_requests(OPEN_LOOP, 3, range(3))


def test_workload_longer_than_the_artifact_is_refused_with_the_numbers() -> None:
    workload = Workload(prompt_tokens=60, new_tokens=5)
    with pytest.raises(PlanError, match=r"=60 .*=5 = 65 exceeds .*max_length=64") as caught:
        fit_workload(workload, batch_size=2, max_length=64)
    assert caught.value.exit_code == 4
    fit_workload(workload, batch_size=2, max_length=65)


def test_closed_loop_fills_the_slots_by_default() -> None:
    assert fit_workload(Workload(), batch_size=3, max_length=999).concurrency == 3
    assert fit_workload(Workload(concurrency=1), batch_size=3, max_length=999).concurrency == 1
    assert fit_workload(OPEN_LOOP, batch_size=3, max_length=999).concurrency is None


@pytest.mark.parametrize(
    "name", ["prompt_tokens", "new_tokens", "num_requests", "concurrency", "rate"]
)
def test_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}=0"):
        Workload(**{name: 0})


def test_infinite_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="rate=inf"):
        Workload(rate=float("inf"))


def test_rate_with_concurrency_is_refused() -> None:
    with pytest.raises(UsageError, match="contradict"):
        Workload(rate=1.0, concurrency=2)
