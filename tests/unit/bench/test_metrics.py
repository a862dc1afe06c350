from dataclasses import replace

import pytest

from neuronc.bench import metrics
from neuronc.bench.timeline import Timeline
from tests.unit.bench.fake_engine import make_record, make_step


def test_latencies_of_one_request() -> None:
    request = make_record(100, 130, 140, 170)
    assert metrics.ttft_ms(request) == 30
    assert metrics.tpot_ms(request) == 20
    assert metrics.itl_ms(request) == (10, 30)
    assert metrics.e2e_ms(request) == 70


def test_latency_counts_from_the_start_and_not_from_a_late_submit() -> None:
    request = replace(make_record(100, 130, 140), submit_ns=120_000_000)
    assert (metrics.ttft_ms(request), metrics.e2e_ms(request)) == (30, 40)


def test_one_token_has_a_first_token_but_no_time_per_token() -> None:
    request = make_record(100, 130)
    assert (metrics.ttft_ms(request), metrics.e2e_ms(request)) == (30, 30)
    assert metrics.tpot_ms(request) is None
    assert metrics.itl_ms(request) == ()


def test_no_token_is_undefined_and_not_zero() -> None:
    request = make_record(100)
    assert metrics.ttft_ms(request) is None
    assert metrics.e2e_ms(request) is None
    assert metrics.output_tokens_per_s(Timeline(requests=(request,), steps=())) is None


def test_throughput_runs_from_first_start_to_last_token() -> None:
    first = make_record(100, 200, 300, prompt_tokens=10)
    last = make_record(150, 350, 600, prompt_tokens=20)
    timeline = Timeline(requests=(last, first), steps=())
    assert metrics.duration_s(timeline) == 0.5
    assert metrics.output_tokens_per_s(timeline) == 8
    assert metrics.input_tokens_per_s(timeline) == 60
    assert metrics.total_tokens_per_s(timeline) == 68
    assert metrics.requests_per_s(timeline) == 4


def test_rates_are_undefined_when_no_time_passed() -> None:
    timeline = Timeline(requests=(make_record(100, 100),), steps=())
    assert metrics.requests_per_s(timeline) is None


def test_step_times_are_kept_apart_by_phase_and_bucket() -> None:
    steps = (
        make_step("prefill", 0, 40, bucket=128),
        make_step("decode", 41, 46),
        make_step("prefill", 47, 57, bucket=32),
        make_step("decode", 58, 64),
    )
    timeline = Timeline(requests=(), steps=steps)
    assert metrics.decode_step_ms(timeline) == (5, 6)
    assert metrics.prefill_step_ms(timeline) == (40, 10)
    assert metrics.step_ms_by_bucket(timeline, "prefill") == {32: (10,), 128: (40,)}
    assert list(metrics.step_ms_by_bucket(timeline, "prefill")) == [32, 128]


def test_host_gap_leaves_out_waits_for_an_arrival() -> None:
    steps = (
        make_step("prefill", 0, 10),
        make_step("decode", 12, 20),
        make_step("prefill", 500, 510),
    )
    assert metrics.host_gap_ms(Timeline(requests=(), steps=steps)) == (2, 480)
    waited = Timeline(requests=(), steps=steps, idle_before=frozenset({0, 2}))
    assert metrics.host_gap_ms(waited) == (2,)


@pytest.mark.parametrize("name", ["ttft_ms", "tpot_ms", "itl_ms", "e2e_ms", "host_gap_ms"])
def test_definition_is_one_line_formula(name: str) -> None:
    assert " - " in metrics.DEFINITIONS[name]
    assert "\n" not in metrics.DEFINITIONS[name]
