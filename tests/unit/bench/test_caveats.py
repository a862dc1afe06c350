"""Each doubt appears where it should, and a run without any has none."""

from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench.caveats import busy_machine, find_caveats
from neuronc.bench.run import Measured
from neuronc.bench.settings import Settings
from tests.unit.bench.fake_engine import FakeBench, lengths

CALM = Settings(modes=("throughput",), workload=lengths(3, 3), num_requests=100)


def measure(settings: Settings = CALM, **session: Any) -> Measured:
    return FakeBench().measure(settings, **session)


def find(measured: Measured, *, verified: bool = True) -> tuple[str, ...]:
    with_reference = replace(measured, tokens=replace(measured.tokens, tokens_with_reference=1))
    return find_caveats(with_reference, batch_size=2, verified=verified)


def test_calm_run_has_no_caveats() -> None:
    assert find(measure()) == ()


def test_few_requests_make_p99_doubtful() -> None:
    (caveat,) = find(measure(replace(CALM, num_requests=99)))
    assert "rests on 297 of them" in caveat
    assert "--requests" in caveat


def test_repeats_that_ended_too_early_are_told() -> None:
    (caveat,) = find(measure(replace(CALM, repeats=1, num_requests=300)))
    assert caveat.startswith("throughput: the most repeats allowed, 1")
    assert "--time-budget" in caveat


def test_slots_that_stay_idle_are_told() -> None:
    (caveat,) = find(replace_batch(measure()))
    assert "of 2 slots were busy" in caveat


def replace_batch(measured: Measured) -> Measured:
    """As if the artifact had four times the slots."""
    for found in measured.runs:
        for summary in found.summaries:
            busy = summary.metrics["occupancy"]
            assert busy is not None
            summary.metrics["occupancy"] = busy / 4
    return measured


def test_requests_that_failed_are_told() -> None:
    found = find(measure(replace(CALM, num_requests=400, run_limit_s=2.0)))
    assert any("were not done when their run ended" in caveat for caveat in found)


def test_a_run_in_which_nothing_was_done_says_so() -> None:
    closed = replace(CALM, modes=("latency",), run_limit_s=1e-12)
    found = find_caveats(measure(closed), batch_size=2, verified=True)
    assert "latency: no request was done" in " ".join(found)
    assert "original model" not in " ".join(found)


def test_points_of_a_sweep_are_told_apart() -> None:
    found = find(measure(replace(CALM, modes=("sweep",), concurrencies=(1, 2), num_requests=9)))
    assert {caveat.partition(":")[0] for caveat in found} == {
        "sweep, concurrency 1",
        "sweep, concurrency 2",
    }


def test_one_new_token_leaves_metrics_undefined() -> None:
    found = find(measure(replace(CALM, workload=lengths(3, 1))))
    assert any("tpot_ms and itl_ms are null" in caveat for caveat in found)


def test_unverified_artifact_is_told() -> None:
    (caveat,) = find(measure(), verified=False)
    assert "unverified" in caveat


def test_tokens_without_a_record_are_told() -> None:
    (caveat,) = find_caveats(measure(), batch_size=2, verified=True)
    assert "no token was compared with the original model's" in caveat


@pytest.mark.parametrize(("load", "busy"), [(2.0, False), (2.1, True), (None, False)])
def test_busy_machine_is_told(load: float | None, busy: bool) -> None:
    found = list(busy_machine({"load_average_1min": load, "threads_visible": 2}))
    assert len(found) == busy


def test_a_generator_that_is_late_by_itself_is_told() -> None:
    measured = measure(replace(CALM, modes=("serve",), rates=(20.0,)))
    for late, told in ((0.009, False), (0.011, True)):
        for found in measured.runs:
            for summary in found.summaries:
                ttft_ms = summary.metrics["ttft_ms.p50"]
                assert ttft_ms is not None
                summary.metrics["late_own_ms.p95"] = late * ttft_ms
        assert any("were sent up to" in caveat for caveat in find(measured)) is told


def test_places_of_the_context_that_were_left_out_are_told() -> None:
    steps = Settings(modes=("steps",), time_budget_s=0.001)
    (caveat,) = find_caveats(measure(steps), batch_size=2, verified=True)
    assert caveat.startswith(
        "steps: 8 cells at the start and the middle of the context were left out"
    )
    assert (
        find_caveats(measure(replace(steps, time_budget_s=5.0)), batch_size=2, verified=True) == ()
    )
