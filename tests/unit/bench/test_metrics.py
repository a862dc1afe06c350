"""Every definition on timelines made by hand."""

from dataclasses import replace

import pytest

from neuronc.bench import metrics
from tests.unit.bench.fake_engine import MS, make_record, make_step, make_timeline


def test_latencies_of_one_request() -> None:
    request = make_record(100, 130, 140, 170)
    assert metrics.ttft_ms(request) == 30
    assert metrics.tpot_ms(request) == 20
    assert metrics.itl_ms(request) == (10, 30)
    assert metrics.e2e_ms(request) == 70
    assert metrics.norm_ms(request) == pytest.approx(70 / 3)


def test_latency_counts_from_the_schedule_and_from_a_late_send_beside_it() -> None:
    request = make_record(100, 130, 140, send_ms=120)
    assert (metrics.ttft_ms(request), metrics.e2e_ms(request)) == (30, 40)
    assert metrics.ttft_send_ms(request) == 10


def test_one_token_has_a_first_token_but_no_time_per_token() -> None:
    request = make_record(100, 130)
    assert (metrics.ttft_ms(request), metrics.e2e_ms(request)) == (30, 30)
    assert metrics.tpot_ms(request) is None
    assert metrics.itl_ms(request) == ()
    assert metrics.SAMPLES["tpot_ms"](make_timeline(request)) == ()


@pytest.mark.parametrize("name", sorted(metrics.SAMPLES))
def test_request_that_failed_has_no_latency_and_is_no_zero(name: str) -> None:
    failed = make_record(100, 130, 140, finish="failed")
    timeline = make_timeline(failed, steps=(make_step("prefill", 110, 130),))
    assert metrics.SAMPLES[name](timeline) == ()
    assert timeline.num_failed == 1


def test_throughput_runs_from_the_first_schedule_to_the_last_token() -> None:
    first = make_record(100, 200, 300, prompt_tokens=10)
    last = make_record(150, 350, 600, prompt_tokens=20, request_id="last")
    timeline = make_timeline(last, first)
    assert metrics.duration_s(timeline) == 0.5
    assert metrics.output_tokens_per_s(timeline) == 8  # no prompt token is in it
    assert metrics.total_tokens_per_s(timeline) == 68
    assert metrics.requests_per_s(timeline) == 4


def test_tokens_of_a_failed_request_came_but_it_did_not_finish() -> None:
    done = make_record(0, 100, 200)
    failed = make_record(0, 150, request_id="failed", finish="failed")
    timeline = make_timeline(done, failed, end_ns=500 * MS)
    assert metrics.duration_s(timeline) == 0.5  # up to where the run was ended
    assert metrics.output_tokens_per_s(timeline) == 6
    assert metrics.requests_per_s(timeline) == 2


def test_rates_are_undefined_when_no_time_passed_or_no_token_came() -> None:
    assert metrics.requests_per_s(make_timeline(make_record(100, 100))) is None
    nothing = make_timeline(make_record(100, finish="failed"), end_ns=900 * MS)
    assert metrics.output_tokens_per_s(nothing) is None


def test_queue_ends_where_the_first_program_of_the_request_begins() -> None:
    steps = (
        make_step("prefill", 130, 150),
        make_step("prefill", 150, 170),
        make_step("decode", 171, 180),
    )
    timeline = make_timeline(make_record(100, 170, 180), steps=steps)
    assert metrics.queue_ms(timeline) == (30,)
    assert metrics.prefill_ms(timeline) == (40,)


def test_waste_and_use_of_what_was_computed() -> None:
    steps = (
        make_step("prefill", 0, 10, bucket=16, num_tokens=12),
        make_step("decode", 10, 20, request_ids=("a", "b"), num_tokens=2),
        make_step("decode", 20, 50, request_ids=("a",), num_tokens=1),
    )
    timeline = make_timeline(steps=steps, batch_size=2)
    assert metrics.pad_waste(timeline) == pytest.approx(4 / 16)
    assert metrics.occupancy(timeline) == pytest.approx((2 * 10 + 1 * 30) / (2 * 40))
    assert metrics.useful(timeline) == pytest.approx((12 + 2 + 1) / (16 + 2 + 2))


def test_nothing_ran_so_shares_are_undefined() -> None:
    empty = make_timeline()
    assert (metrics.pad_waste(empty), metrics.occupancy(empty), metrics.useful(empty)) == (
        None,
    ) * 3


def test_host_gap_leaves_out_waits_for_an_arrival() -> None:
    steps = (
        make_step("prefill", 0, 10),
        make_step("decode", 12, 20),
        make_step("prefill", 500, 510),
    )
    assert metrics.host_gap_ms(make_timeline(steps=steps)) == (2, 480)
    waited = make_timeline(steps=steps, idle_before=frozenset({0, 2}))
    assert metrics.host_gap_ms(waited) == (2,)


def test_a_gap_is_stalled_if_another_prefill_began_in_it() -> None:
    steps = (
        make_step("prefill", 0, 10),
        make_step("decode", 11, 16),
        make_step("prefill", 17, 37, request_ids=("other",)),
        make_step("decode", 38, 43),
        make_step("decode", 44, 49),
    )
    timeline = make_timeline(make_record(0, 10, 16, 43, 49), steps=steps)
    assert metrics.stalled_itl_ms(timeline) == (27,)


def test_how_late_a_request_was_sent_and_how_much_of_that_no_program_explains() -> None:
    steps = (make_step("prefill", 0, 10), make_step("decode", 12, 20))
    timeline = make_timeline(
        make_record(5, 40, send_ms=11, request_id="in a program"),
        make_record(10, 40, send_ms=11, request_id="between two"),
        make_record(15, 40, send_ms=15, request_id="in time"),
        make_record(30, 40, send_ms=33, request_id="after all"),
        steps=steps,
    )
    assert metrics.SAMPLES["late_ms"](timeline) == (6, 1, 0, 3)
    assert metrics.late_own_ms(timeline) == (1, 1, 0, 3)
    closed = make_timeline(make_record(5, 40), make_record(0, 9, finish="failed"))
    assert metrics.late_own_ms(closed) == metrics.SAMPLES["late_ms"](closed) == (0,)


def test_samples_are_found_by_request() -> None:
    steps = (make_step("prefill", 130, 150), make_step("decode", 151, 160))
    timeline = make_timeline(
        make_record(100, 150, 160, 180),
        make_record(100, 170, request_id="one token"),
        make_record(100, finish="failed", request_id="failed"),
        steps=(*steps, make_step("prefill", 161, 170, request_ids=("one token",))),
    )
    found = {name: metrics.samples_by_request(name, timeline) for name in metrics.SAMPLES}
    assert found["ttft_ms"] == {"request-0": (50,), "one token": (70,)}
    assert found["itl_ms"] == {"request-0": (10, 20)}
    assert found["tpot_ms"] == {"request-0": (15,)}
    assert found["queue_ms"] == {"request-0": (30,), "one token": (61,)}
    for name, samples in metrics.SAMPLES.items():
        values = tuple(value for request in found[name].values() for value in request)
        assert values == samples(timeline)


@pytest.mark.parametrize("name", [*metrics.SAMPLES, *metrics.SCALARS])
def test_every_metric_is_defined_in_one_line(name: str) -> None:
    assert metrics.DEFINITIONS[name]
    assert "\n" not in metrics.DEFINITIONS[name]


def test_a_record_without_a_send_has_no_latency_from_it() -> None:
    assert metrics.ttft_send_ms(replace(make_record(0, 5), send_ns=None)) is None
