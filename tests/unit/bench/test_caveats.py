from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench.caveats import find_caveats
from neuronc.bench.engine_protocol import StepLike
from neuronc.bench.environment import Environment
from neuronc.bench.timeline import Timeline
from neuronc.bench.workload import Workload
from tests.unit.bench.fake_engine import make_record, make_step

Find = Callable[..., tuple[str, ...]]

WORKLOAD = Workload(num_requests=100, concurrency=2)
QUIET: dict[str, object] = {"load_average_1min": 0.5, "threads_visible": 2}


@pytest.fixture
def find() -> Find:
    """Caveats of a run without any, except for what the arguments change."""
    steps = tuple(make_step("decode", 10 * i, 10 * i + 5, active_slots=2) for i in range(8))
    calm = Timeline(requests=tuple(make_record(0, 1, 2) for _ in range(100)), steps=steps)

    def call(
        *,
        workload: Workload = WORKLOAD,
        environment: Environment = QUIET,
        warm_steps: tuple[StepLike, ...] = steps,
        **timeline: Any,
    ) -> tuple[str, ...]:
        changed = replace(calm, **timeline)
        return find_caveats(changed, workload, 2, environment, warm_steps)

    return call


def test_calm_run_has_no_caveats(find: Find) -> None:
    assert find() == ()


def test_busy_machine_is_named(find: Find) -> None:
    (caveat,) = find(environment=QUIET | {"load_average_1min": 2.1})
    assert "load average 2.1 on 2 threads" in caveat


def test_program_first_run_inside_the_timed_run_is_named(find: Find) -> None:
    (caveat,) = find(warm_steps=())
    assert "decode program of bucket 32" in caveat


def test_first_step_far_slower_than_the_rest_is_named(find: Find) -> None:
    steps = (
        make_step("decode", 0, 20, active_slots=2),
        *(make_step("decode", 30, 35, active_slots=2),) * 4,
    )
    (caveat,) = find(steps=steps)
    assert "took 20.0 ms, the median of the others is 5.0 ms" in caveat


def test_too_few_samples_for_p99_are_named(find: Find) -> None:
    (caveat,) = find(requests=(make_record(0, 1, 2),) * 99)
    assert "rests on 99 samples" in caveat


def test_single_new_token_leaves_gaps_undefined(find: Find) -> None:
    (caveat,) = find(workload=replace(WORKLOAD, new_tokens=1))
    assert "tpot_ms and itl_ms are null" in caveat


def test_concurrency_below_the_batch_size_is_named(find: Find) -> None:
    steps = (make_step("decode", 0, 5, active_slots=1),) * 4
    (caveat,) = find(steps=steps, workload=replace(WORKLOAD, concurrency=1))
    assert "on average 1.0 of 2 slots" in caveat
    assert caveat.endswith("try --concurrency 2")


def test_slots_left_idle_by_a_short_run_are_named(find: Find) -> None:
    (caveat,) = find(steps=(make_step("decode", 0, 5, active_slots=1),) * 4)
    assert caveat.endswith("try --requests 16 or more")


def test_concurrency_above_the_batch_size_is_named(find: Find) -> None:
    (caveat,) = find(workload=replace(WORKLOAD, concurrency=3))
    assert "3 requests in flight share 2 slots" in caveat


def test_rate_the_artifact_cannot_follow_is_named(find: Find) -> None:
    workload = replace(WORKLOAD, concurrency=None, rate=50.0)
    late = tuple(make_record(i, 10 * i + 10, 10 * i + 11) for i in range(100))
    (caveat,) = find(workload=workload, requests=late)
    assert "91 requests waited for their first token" in caveat
    in_time = tuple(make_record(i, i + 1, i + 2) for i in range(100))
    assert find(workload=workload, requests=in_time) == ()
