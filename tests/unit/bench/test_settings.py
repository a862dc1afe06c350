from typing import Any

import pytest

from neuronc.bench.settings import Settings
from neuronc.cli import bench_options as flags
from neuronc.errors import UsageError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modes": ("serve",), "rates": (1.0,), "concurrencies": (2,)}, "contradict"),
        ({"modes": ("serve",), "rates": (1.0, 2.0)}, "are a sweep"),
        ({"modes": ("latency",), "rates": (1.0,)}, "--mode latency fixes"),
        ({"num_requests": 0}, "--requests is 0"),
        ({"time_budget_s": -1.0}, "--time-budget is -1"),
        ({"run_limit_s": float("nan")}, "--run-limit is nan"),
        ({"run_limit_s": float("inf")}, "--run-limit is inf"),
        ({"num_requests": 10_000_000}, "--requests is 10000000; a run has at most"),
        ({"modes": ("serve",), "concurrencies": (2_000_000_000,)}, "--concurrency is 2000000000"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**fields)


def test_modes_follow_from_the_other_flags() -> None:
    assert flags.parse_modes(None, has_load=False) == ("steps", "latency", "throughput")
    assert flags.parse_modes(None, has_load=True) == ("serve",)
    assert flags.parse_modes("throughput, steps", has_load=False) == ("steps", "throughput")


@pytest.mark.parametrize("text", ["", "fast", "steps,steps", "steps,"])
def test_other_modes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mode is"):
        flags.parse_modes(text, has_load=False)


def test_numbers_are_sorted_and_counts_are_whole() -> None:
    assert flags.parse_numbers("4,1,0.5", "--rate") == (0.5, 1.0, 4.0)
    assert flags.parse_counts("8,2", "--concurrency") == (2, 8)
    assert flags.parse_counts(None, "--concurrency") == ()


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1,nan", "1,inf", "1,,2"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--rate is"):
        flags.parse_numbers(text, "--rate")


def test_fractions_of_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="whole numbers"):
        flags.parse_counts("1.5", "--concurrency")


@pytest.mark.parametrize(
    ("max_length", "lengths"), [(2048, (128, 32)), (160, (80, 32)), (64, (32, 32)), (2, (1, 1))]
)
def test_default_lengths_fit_the_artifact(max_length: int, lengths: tuple[int, int]) -> None:
    made = flags.parse_workload(None, None, None, seed=0, stop_at_eos=False, max_length=max_length)
    assert (made.prompt_tokens.longest, made.new_tokens.longest) == lengths


def test_default_prompt_leaves_room_for_the_answer_asked_for() -> None:
    made = flags.parse_workload(None, "40", None, seed=0, stop_at_eos=False, max_length=64)
    assert (made.prompt_tokens.longest, made.new_tokens.longest) == (24, 40)


def test_lengths_given_twice_are_refused() -> None:
    with pytest.raises(UsageError, match="together"):
        flags.parse_workload("3", None, "mix:1,2", seed=0, stop_at_eos=False, max_length=64)


def test_attainment_without_objectives_is_refused() -> None:
    with pytest.raises(UsageError, match="--attainment"):
        flags.make_settings(arrival=None, slo=None, attainment=0.9)


@pytest.mark.parametrize(
    ("arrival", "rest", "message"),
    [
        ("constant", {"modes": ("latency",), "rates": ()}, "--mode latency has no arrivals"),
        ("gamma:0.5", {"modes": ("serve",), "rates": ()}, "needs a rate"),
        ("trace", {"modes": ("sweep",), "rates": ()}, "a sweep needs several rates"),
        ("trace", {"modes": ("serve",), "concurrencies": (2,)}, "--concurrency sends when"),
    ],
)
def test_arrivals_that_no_run_would_follow_are_refused(
    arrival: str, rest: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        flags.make_settings(arrival=arrival, slo=None, attainment=None, **rest)


def test_arrivals_that_runs_follow_are_taken() -> None:
    for arrival, rates in (("trace", ()), ("trace", (2.0,)), ("gamma:0.5", (2.0,))):
        made = flags.make_settings(
            arrival=arrival, slo=None, attainment=None, modes=("serve",), rates=rates
        )
        assert (made.arrival is None) == (arrival == "trace")
