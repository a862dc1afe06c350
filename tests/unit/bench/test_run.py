"""Whole measurements on an engine whose clock only moves when told."""

import io
import itertools
from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench import metrics
from neuronc.bench.drive import PerfClock
from neuronc.bench.modes.planning import Planner
from neuronc.bench.modes.runs import RunSet
from neuronc.bench.reference import KnownSequence
from neuronc.bench.run import Measured
from neuronc.bench.settings import Settings
from neuronc.bench.workload.arrivals import Arrival
from neuronc.bench.workload.shapes import RequestShape
from neuronc.cli.progress import LineProgress
from neuronc.errors import BenchmarkError, HostMemoryError, InputError, PlanError
from tests.unit.bench.fake_engine import MS, FakeBench, FakeToken, lengths

Tokens = tuple[FakeToken, ...]

ONE_BY_ONE = Settings(modes=("latency",), workload=lengths(3, 3), num_requests=2)
OPEN_LOOP = Settings(modes=("serve",), workload=lengths(3, 3), num_requests=20, rates=(40.0,))


@pytest.fixture
def fake_bench() -> FakeBench:
    return FakeBench()


def by_mode(measured: Measured) -> dict[str, RunSet]:
    return {found.mode.mode: found for found in measured.runs}


def test_one_at_a_time_has_the_times_of_the_engine(fake_bench: FakeBench) -> None:
    # host 1 + prefill 10, then host 1 + decode 5 for each further token
    timeline = fake_bench.run(ONE_BY_ONE)
    for request in timeline.requests:
        assert metrics.ttft_ms(request) == 11
        assert metrics.itl_ms(request) == (6, 6)
        assert metrics.e2e_ms(request) == 23
        assert request.token_ids == (0, 1, 2)
    assert metrics.host_gap_ms(timeline) == (1,) * 5
    assert metrics.output_tokens_per_s(timeline) == pytest.approx(6 / 0.046)
    assert len(timeline.usage) == len(timeline.steps) + 1


def test_real_clock_sleeps_at_least_as_long_as_asked() -> None:
    clock = PerfClock()
    before_ns = clock.now_ns()
    clock.sleep(0.002)
    assert clock.now_ns() - before_ns >= 2_000_000


def test_closed_loop_keeps_the_concurrency_and_schedules_at_the_send(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, modes=("serve",), num_requests=5, concurrencies=(2,))
    requests = fake_bench.run(settings).requests
    assert len(requests) == 5
    for request in requests:
        others = [r for r in requests if r is not request]
        assert request.send_ns == request.sched_ns
        running = sum(r.sched_ns <= request.sched_ns < r.token_times_ns[-1] for r in others)
        assert running <= 1


def test_throughput_sends_everything_at_once_and_counts_the_wait(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, modes=("throughput",), num_requests=5)
    timeline = fake_bench.run(settings, batch_size=2)
    assert {request.sched_ns for request in timeline.requests} == {timeline.begin_ns}
    assert max(len(step.slots) for step in timeline.steps) == 2
    assert metrics.queue_ms(timeline)[-1] > metrics.queue_ms(timeline)[0]


def test_open_loop_latency_counts_from_the_scheduled_arrival(fake_bench: FakeBench) -> None:
    timeline = fake_bench.run(OPEN_LOOP)
    arrivals_s = Arrival(1.0).times_s(20, 40.0, seed=0)
    offsets_s = [(r.sched_ns - timeline.begin_ns) / 1e9 for r in timeline.requests]
    assert offsets_s == pytest.approx(arrivals_s)
    delays_ms = [((r.send_ns or 0) - r.sched_ns) / MS for r in timeline.requests]
    assert max(delays_ms) > 1, "no request came while a step ran: the test shows nothing"
    assert min(delays_ms) >= 0
    assert max(delays_ms) <= 11, "a request waits for the running step only: prefill and its host"


def test_open_loop_waits_for_arrivals_and_leaves_the_wait_out_of_the_gaps(
    fake_bench: FakeBench,
) -> None:
    timeline = fake_bench.run(replace(OPEN_LOOP, num_requests=4, rates=(0.5,)))
    assert sum(fake_bench.clock.slept_s) > 1
    assert len(timeline.idle_before) == 3
    assert set(metrics.host_gap_ms(timeline)) == {1.0}


def test_what_is_not_done_at_the_limit_has_failed(fake_bench: FakeBench) -> None:
    settings = replace(OPEN_LOOP, rates=(1000.0,), run_limit_s=0.1)
    timeline = fake_bench.run(settings)
    assert len(timeline.requests) == 20, "what the schedule had is in the report"
    assert 0 < timeline.num_failed < 20
    assert all(len(r.token_times_ns) == 3 for r in timeline.done)
    assert timeline.end_ns - timeline.begin_ns >= 100 * MS
    closed = replace(ONE_BY_ONE, num_requests=20, run_limit_s=0.1)
    assert len(fake_bench.run(closed).requests) < 20, "nothing had scheduled the others"


@pytest.mark.parametrize(
    ("prefill_buckets", "decode_buckets"), [((4, 16), (8, 20, 64)), ((4, 16, 32, 64), (64,))]
)
def test_every_program_is_warm_before_the_clock_starts(
    fake_bench: FakeBench, prefill_buckets: tuple[int, ...], decode_buckets: tuple[int, ...]
) -> None:
    measured = fake_bench.measure(
        replace(ONE_BY_ONE, repeats=1),
        prefill_buckets=prefill_buckets,
        decode_buckets=decode_buckets,
    )
    programs = [("prefill", b) for b in prefill_buckets] + [("decode", b) for b in decode_buckets]
    assert set(fake_bench.session.calls) == set(programs)
    assert set(measured.warmth.first_call_ms) == {f"{p}/{b}" for p, b in programs}
    assert all(len(calls) >= 3 for calls in measured.warmth.calls_ms.values())


def test_steps_time_every_cell_in_rounds_of_random_order(fake_bench: FakeBench) -> None:
    settings = Settings(modes=("steps",), time_budget_s=0.001)
    measured = fake_bench.measure(settings, batch_size=4)
    assert len(measured.cells_left_out) == 2 * 2 + 2 * 2
    names = [(c.cell.step_class, c.cell.active_slots) for c in measured.cells]
    assert names == [
        ("prefill/4", 1), ("prefill/16", 1),
        ("decode/32", 1), ("decode/32", 2), ("decode/32", 4),
        ("decode/64", 1), ("decode/64", 2), ("decode/64", 4),
    ]  # fmt: skip
    assert {len(c.calls_ms) for c in measured.cells} == {5}
    rounds = fake_bench.session.calls[-40:]
    assert len({tuple(rounds[8 * i : 8 * i + 8]) for i in range(5)}) > 1


def test_places_of_the_context_are_measured_where_there_is_time(fake_bench: FakeBench) -> None:
    measured = fake_bench.measure(Settings(modes=("steps",), time_budget_s=5.0), batch_size=4)
    assert measured.cells_left_out == ()
    found = [(c.cell.step_class, c.cell.active_slots, c.cell.context) for c in measured.cells]
    assert found == [
        ("prefill/4", 1, 4), ("prefill/4", 1, 34), ("prefill/4", 1, 64),
        ("prefill/16", 1, 16), ("prefill/16", 1, 40), ("prefill/16", 1, 64),
        ("decode/32", 1, 32), ("decode/32", 2, 32),
        ("decode/32", 4, 1), ("decode/32", 4, 16), ("decode/32", 4, 32),
        ("decode/64", 1, 64), ("decode/64", 2, 64),
        ("decode/64", 4, 33), ("decode/64", 4, 48), ("decode/64", 4, 64),
    ]  # fmt: skip
    starts = {start for count, start in fake_bench.session.starts if count == 4}
    assert starts == {0, 30, 60}


def test_no_place_of_the_context_is_measured_twice(fake_bench: FakeBench) -> None:
    measured = fake_bench.measure(
        Settings(modes=("steps",), workload=lengths(1, 1)),
        max_length=2,
        prefill_buckets=(2,),
        decode_buckets=(1, 2),
    )
    cells = [c.cell for c in measured.cells]
    assert len(set(cells)) == len(cells) == 1 + 2 * 2
    assert len({len(c.calls_ms) for c in measured.cells}) == 1


def test_programs_that_sample_are_timed_until_their_tokens_are_here(fake_bench: FakeBench) -> None:
    settings = Settings(modes=("steps",), time_budget_s=0.001)
    fake_bench.measure(settings, samples_on_device=True)
    assert len(fake_bench.session.sampled) == len(fake_bench.session.calls) > 0


def test_every_run_has_an_engine_of_its_own_and_modes_take_turns(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, modes=("latency", "throughput"), repeats=4)
    found = by_mode(fake_bench.measure(settings))
    assert [len(runs.timelines) for runs in found.values()] == [4, 4]
    assert len(fake_bench.engines) == 8
    begins = sorted((t.begin_ns, mode) for mode, runs in found.items() for t in runs.timelines)
    order = [mode for _, mode in begins]
    for block in range(4):
        assert set(order[2 * block : 2 * block + 2]) == {"latency", "throughput"}


def test_repeats_end_when_the_numbers_are_known(fake_bench: FakeBench) -> None:
    (found,) = fake_bench.measure(ONE_BY_ONE).runs  # a clock without noise
    assert len(found.timelines) == 3
    assert found.decision is not None
    assert found.decision.converged


def test_sweep_measures_every_load(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, modes=("sweep",), concurrencies=(1, 2, 4), repeats=1)
    loads = [found.mode.load.concurrency for found in fake_bench.measure(settings).runs]
    assert loads == [1, 2, 4]


def test_requests_fit_the_time_there_is(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, num_requests=None, repeats=1)
    (plenty,) = fake_bench.measure(settings).runs
    assert len(plenty.mode.requests) == 100
    (hardly,) = fake_bench.measure(replace(settings, time_budget_s=1e-9)).runs
    assert len(hardly.mode.requests) == 2


def test_prompts_avoid_the_forbidden_ids(fake_bench: FakeBench) -> None:
    fake_bench.run(ONE_BY_ONE, vocab_size=4)
    (engine,) = fake_bench.engines
    assert {token for r in engine.seen for token in r.prompt_ids} == {2, 3}


def test_smallest_possible_artifact_is_measured(fake_bench: FakeBench) -> None:
    settings = replace(ONE_BY_ONE, workload=lengths(1, 1), num_requests=1)
    timeline = fake_bench.run(settings, max_length=2, prefill_buckets=(2,), decode_buckets=(2,))
    assert len(timeline.requests[0].token_times_ns) == 1


def test_workload_that_does_not_fit_is_refused_before_any_step(fake_bench: FakeBench) -> None:
    with pytest.raises(PlanError, match="max_length of 5"):
        fake_bench.run(ONE_BY_ONE, max_length=5)
    assert fake_bench.engines == []
    assert fake_bench.session.calls == []


def test_end_of_sequence_ends_an_answer_only_if_asked(fake_bench: FakeBench) -> None:
    def stop(tokens: Tokens) -> Tokens:
        engine = fake_bench.engines[-1]
        engine.slots.clear()
        engine.numbers.clear()
        return tuple(replace(t, finish_reason="stop") for t in tokens)

    with pytest.raises(BenchmarkError, match="finish reason 'stop'"):
        fake_bench.run(ONE_BY_ONE, stop)
    heeding = replace(ONE_BY_ONE, workload=lengths(3, 3, ignore_eos=False))
    assert {r.finish for r in fake_bench.run(heeding, stop).requests} == {"stop"}


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
    with pytest.raises(BenchmarkError, match="still short of tokens"):
        fake_bench.run(ONE_BY_ONE, lambda tokens: tokens[:0])


def test_token_after_the_end_makes_the_run_invalid(fake_bench: FakeBench) -> None:
    with pytest.raises(BenchmarkError, match="not in flight"):
        fake_bench.run(
            ONE_BY_ONE, lambda tokens: tokens + tuple(t for t in tokens if t.finish_reason)
        )


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError("device lost"), BenchmarkError),
        (InputError("the model's logits are not finite: nan for token 3"), BenchmarkError),
        (HostMemoryError("a rank was killed"), HostMemoryError),  # has a way out of its own
    ],
)
def test_engine_that_fails_makes_the_run_invalid_and_is_named(
    fake_bench: FakeBench, error: Exception, raised: type[Exception]
) -> None:
    def fail(tokens: Tokens) -> Tokens:
        raise error

    with pytest.raises(raised, match=str(error)):
        fake_bench.run(ONE_BY_ONE, fail)


def test_tokens_that_change_between_runs_are_found(fake_bench: FakeBench) -> None:
    def drift(tokens: Tokens) -> Tokens:
        changed = len(fake_bench.engines) == 3
        return tuple(replace(t, token_id=t.token_id + changed) for t in tokens)

    settings = replace(ONE_BY_ONE, repeats=3)
    one_program = fake_bench.measure(settings, drift, decode_buckets=(64,))
    assert len(one_program.tokens.problems) == 2
    assert "request-0: token 0 is 1, made alone 0" in one_program.tokens.problems[0]
    fake_bench.engines.clear()
    several = fake_bench.measure(settings, drift).tokens
    assert (several.problems, several.tokens_not_repeated) == ([], 2)


def test_tokens_of_known_prompts_are_compared_with_the_record(fake_bench: FakeBench) -> None:
    right = KnownSequence(
        tokens=(5, 6, 7, 0, 1, 2),
        prompt_tokens=3,
        next_tokens=(6, 7, 0, 1, 2),
        near_ties=frozenset(),
    )
    measured = fake_bench.measure(replace(ONE_BY_ONE, repeats=1), known=(right,))
    assert measured.tokens.problems == []
    assert measured.tokens.tokens_with_reference == 3
    assert measured.tokens.tokens_checked == 6
    wrong = replace(right, next_tokens=(6, 7, 0, 9, 2))
    measured = fake_bench.measure(replace(ONE_BY_ONE, repeats=1), known=(wrong,))
    assert measured.tokens.problems == ["request-0: token 1 is 1, the original model's 9"]


def test_planning_looks_at_each_request_a_fixed_number_of_times(
    fake_bench: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    decode_s = Planner._decode_s

    def counting(planner: Planner, shape: RequestShape) -> float:
        looked.append(shape)
        return decode_s(planner, shape)

    monkeypatch.setattr(Planner, "_decode_s", counting)
    settings = Settings(
        modes=("serve",), workload=lengths(3, 3), concurrencies=(100,), time_budget_s=1.0
    )
    fake_bench.measure(settings)
    assert len(looked) == 3 * 32 * 100  # twice to see whether all of it fits, once to plan


@pytest.mark.parametrize(("repeats", "most"), [(2, "1 of 2 runs"), (None, "1 runs")])
def test_progress_promises_no_number_of_runs_that_is_not_known(
    fake_bench: FakeBench, repeats: int | None, most: str
) -> None:
    told = io.StringIO()
    ticks = itertools.count(step=10.0)
    settings = replace(ONE_BY_ONE, repeats=repeats)
    fake_bench.measure(settings, progress=LineProgress(told, clock=lambda: next(ticks)))
    assert f"measuring latency: {most}" in told.getvalue()
