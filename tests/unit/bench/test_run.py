from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench import metrics
from neuronc.bench.drive import PerfClock
from neuronc.bench.workload import Workload, make_requests
from neuronc.errors import BenchmarkError, HostMemoryError, PlanError
from tests.unit.bench.fake_engine import FakeBench, FakeToken

Tokens = tuple[FakeToken, ...]

ONE_BY_ONE = Workload(prompt_tokens=3, new_tokens=3, num_requests=2, concurrency=1)


@pytest.fixture
def fake_bench() -> FakeBench:
    return FakeBench()


def test_closed_loop_timeline_has_the_times_of_the_engine(fake_bench: FakeBench) -> None:
    # host 1 + prefill 10, then host 1 + decode 5 for each further token
    report = fake_bench.run(ONE_BY_ONE)
    for request in report.timeline.requests:
        assert metrics.ttft_ms(request) == 11
        assert metrics.itl_ms(request) == (6, 6)
        assert metrics.e2e_ms(request) == 23
    assert metrics.host_gap_ms(report.timeline) == (1,) * 5
    assert metrics.prefill_step_ms(report.timeline) == (10, 10)
    assert metrics.decode_step_ms(report.timeline) == (5,) * 4
    assert metrics.output_tokens_per_s(report.timeline) == pytest.approx(6 / 0.046)


def test_real_clock_sleeps_at_least_as_long_as_asked() -> None:
    clock = PerfClock()
    before_ns = clock.now_ns()
    clock.sleep(0.002)
    assert clock.now_ns() - before_ns >= 2_000_000


def test_closed_loop_keeps_the_concurrency_and_starts_the_clock_at_submit(
    fake_bench: FakeBench,
) -> None:
    report = fake_bench.run(replace(ONE_BY_ONE, num_requests=5, concurrency=2))
    requests = report.timeline.requests
    assert len(requests) == 5
    for request in requests:
        others = [r for r in requests if r is not request]
        running = sum(r.submit_ns <= request.submit_ns < r.token_times_ns[-1] for r in others)
        assert running <= 1
    assert max(step.active_slots for step in report.timeline.steps) == 2


def test_default_concurrency_is_the_batch_size(fake_bench: FakeBench) -> None:
    report = fake_bench.run(replace(ONE_BY_ONE, concurrency=None), batch_size=2)
    assert report.workload.concurrency == 2


def test_open_loop_latency_counts_from_the_scheduled_arrival(fake_bench: FakeBench) -> None:
    workload = replace(ONE_BY_ONE, num_requests=20, concurrency=None, rate=40.0)
    requests = fake_bench.run(workload).timeline.requests
    arrivals_s = [r.arrival_s for r in make_requests(workload, 50)]
    offsets_s = [(r.start_ns - requests[0].start_ns) / 1e9 for r in requests]
    assert offsets_s == pytest.approx(arrivals_s)
    delays_ms = [(r.submit_ns - r.start_ns) / 1e6 for r in requests]
    assert max(delays_ms) > 1, "no request came while a step ran: the test shows nothing"
    assert min(delays_ms) >= 0
    assert max(delays_ms) <= 11, "a request waits for the running step only: prefill and its host"


def test_open_loop_waits_for_arrivals_and_leaves_the_wait_out_of_the_gaps(
    fake_bench: FakeBench,
) -> None:
    workload = replace(ONE_BY_ONE, num_requests=4, concurrency=None, rate=0.5)
    report = fake_bench.run(workload)
    assert sum(fake_bench.engine.clock.slept_s) > 1
    assert len(report.timeline.idle_before) == 3
    assert set(metrics.host_gap_ms(report.timeline)) == {1.0}


@pytest.mark.parametrize(
    ("prefill_buckets", "decode_buckets"), [((4, 16), (8, 20, 64)), ((4, 16, 32, 64), (64,))]
)
def test_every_program_is_warm_before_the_clock_starts(
    fake_bench: FakeBench, prefill_buckets: tuple[int, ...], decode_buckets: tuple[int, ...]
) -> None:
    report = fake_bench.run(
        replace(ONE_BY_ONE, warmup_requests=0),
        prefill_buckets=prefill_buckets,
        decode_buckets=decode_buckets,
    )
    warm_steps = fake_bench.steps[: -len(report.timeline.steps)]
    programs = [("prefill", b) for b in prefill_buckets] + [("decode", b) for b in decode_buckets]
    assert {(step.phase, step.bucket) for step in warm_steps} == set(programs)


def test_warmup_requests_have_the_workloads_shape_and_are_not_reported(
    fake_bench: FakeBench,
) -> None:
    few, many = (
        len(fake_bench.run(replace(ONE_BY_ONE, warmup_requests=n)).timeline.requests)
        for n in (0, 3)
    )
    assert few == many == 2
    shapes = [(len(r.prompt_ids), r.max_new_tokens) for r in fake_bench.engine.seen]
    assert shapes[-5:] == [(3, 3)] * 5


def test_prompts_avoid_the_forbidden_ids_in_warmup_too(fake_bench: FakeBench) -> None:
    fake_bench.run(ONE_BY_ONE, vocab_size=4)
    assert {token for r in fake_bench.engine.seen for token in r.prompt_ids} == {2, 3}


def test_smallest_possible_artifact_is_measured(fake_bench: FakeBench) -> None:
    workload = Workload(prompt_tokens=1, new_tokens=1, num_requests=1)
    report = fake_bench.run(workload, max_length=2, prefill_buckets=(2,), decode_buckets=(2,))
    assert len(report.timeline.requests[0].token_times_ns) == 1


def test_workload_that_does_not_fit_is_refused_before_any_step(fake_bench: FakeBench) -> None:
    with pytest.raises(PlanError, match="max_length=5"):
        fake_bench.run(ONE_BY_ONE, max_length=5)
    assert not hasattr(fake_bench, "engine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finish_reason": "stop"}, "expected to end at exactly"),
        ({"index": 7}, "found token 7"),
        ({"token_id": 50}, "vocabulary of 50"),
        ({"token_id": -1}, "vocabulary of 50"),
        ({"time_ns": 0}, "at 0 ns"),
        ({"request_id": "someone else"}, "'someone else', which is not in flight"),
    ],
)
def test_wrong_token_makes_the_run_invalid(
    fake_bench: FakeBench, change: dict[str, Any], message: str
) -> None:
    def spoil(tokens: Tokens) -> Tokens:
        return tuple(replace(token, **change) for token in tokens)

    with pytest.raises(BenchmarkError, match=message) as caught:
        fake_bench.run(ONE_BY_ONE, spoil)
    assert caught.value.exit_code == 15


def test_engine_that_stops_short_makes_the_run_invalid(fake_bench: FakeBench) -> None:
    with pytest.raises(BenchmarkError, match="still short of tokens") as caught:
        fake_bench.run(ONE_BY_ONE, lambda tokens: tokens[:0])
    assert caught.value.exit_code == 15


def test_token_after_the_end_makes_the_run_invalid(fake_bench: FakeBench) -> None:
    with pytest.raises(BenchmarkError, match="not in flight"):
        fake_bench.run(
            ONE_BY_ONE, lambda tokens: tokens + tuple(t for t in tokens if t.finish_reason)
        )


def test_engine_exception_makes_the_run_invalid_and_is_named(fake_bench: FakeBench) -> None:
    def fail(tokens: Tokens) -> Tokens:
        error = "device lost"
        raise RuntimeError(error)

    with pytest.raises(BenchmarkError, match="RuntimeError: device lost") as caught:
        fake_bench.run(ONE_BY_ONE, fail)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_error_that_has_its_own_way_out_keeps_its_exit_code(fake_bench: FakeBench) -> None:
    def fail(tokens: Tokens) -> Tokens:
        error = "a rank was killed"
        raise HostMemoryError(error)

    with pytest.raises(HostMemoryError):
        fake_bench.run(ONE_BY_ONE, fail)
