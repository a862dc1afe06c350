import json
from dataclasses import replace
from typing import Any

import pytest

from neuronc.bench.noise import Noise, judge, others_share
from neuronc.bench.noise_sample import CpuTimes, NoiseSample
from neuronc.bench.spin_jitter import SpinJitter

QUIET_SPIN = SpinJitter(
    duration_ms=200.0, max_gap_ms=0.1, p99_9_gap_ms=0.002, lost_share=0.01, resolution_ns=100
)
START = NoiseSample(
    cpus=2,
    machine_cpus=2,
    load_average_1min=0.1,
    runnable_others=0.1,
    cpu_times=CpuTimes(busy_s=100.0, steal_s=1.0, total_s=1000.0),
    own_cpu_s=5.0,
    throttled_count=3,
    throttled_s=1.0,
    involuntary_switches=10,
    major_faults=4,
    spin=QUIET_SPIN,
    governor="performance",
    turbo=True,
)
END = replace(  # 10 s on 2 CPUs, of which this process had all but 0.4 s
    START,
    cpu_times=CpuTimes(busy_s=119.9, steal_s=1.1, total_s=1020.0),
    own_cpu_s=24.5,
    involuntary_switches=60,
)


def _judge(before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> Noise:
    return judge(replace(START, **(before or {})), replace(END, **(after or {})), wall_s=10.0)


def test_a_run_that_had_the_machine_to_itself_is_quiet() -> None:
    """Its own threads kept both CPUs busy all along: that is not noise."""
    made = _judge()
    assert (made.noisy, made.findings) == (False, ())
    assert others_share(made.before, made.after) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"runnable_others": 0.6}, {}, "0.6 threads of other processes wanted a CPU on average, above 0.5 on 2 CPUs"),
        ({"runnable_others": None, "load_average_1min": 2.1}, {}, "load average was 2.1, above 2 CPUs"),
        ({}, {"own_cpu_s": 24.2}, "other processes used 3.5% of the CPUs during the run, above 3%"),
        ({}, {"cpu_times": CpuTimes(busy_s=119.0, steal_s=1.3, total_s=1020.0)}, "took 1.5% of the CPUs (steal), above 1%"),
        ({}, {"throttled_count": 5, "throttled_s": 1.25}, "ran out 2 times and held threads back for 0.25 s"),
        ({"spin": replace(QUIET_SPIN, lost_share=0.2)}, {}, "before the run a spinning thread lost 20.0% of its time"),
        ({}, {"spin": replace(QUIET_SPIN, max_gap_ms=8.0)}, "after the run a spinning thread lost 1.0% of its time, longest gap 8.0 ms"),
        ({}, {"major_faults": 15}, "11 page faults waited for a disk in 10.0 s, above 1 per second"),
        ({"spin": replace(QUIET_SPIN, resolution_ns=15_000)}, {}, "steps of 15000 ns, above 1000"),
    ],
)  # fmt: skip
def test_noise_is_named_with_number_threshold_and_a_way_out(
    before: dict[str, Any], after: dict[str, Any], words: str
) -> None:
    made = _judge(before, after)
    assert made.noisy
    assert words in made.findings[0]
    assert "; try" in made.findings[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"runnable_others": 0.5}, {}),
        ({"runnable_others": 15.9, "machine_cpus": 64}, {}),  # pinned to two quiet ones
        ({"load_average_1min": 9.0}, {}),  # of the last minute: the threads there are say more
        ({}, {"own_cpu_s": 24.31}),
        ({}, {"cpu_times": CpuTimes(busy_s=119.9, steal_s=1.19, total_s=1020.0)}),
        ({"spin": replace(QUIET_SPIN, lost_share=0.03, max_gap_ms=5.0)}, {}),
        ({}, {"major_faults": 14}),
    ],
)
def test_up_to_its_threshold_nothing_is_noise(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert not _judge(before, after).noisy


def test_own_threads_that_compete_are_told_but_are_no_noise() -> None:
    made = _judge({}, {"involuntary_switches": 2011})
    assert not made.noisy
    (told,) = made.findings
    assert told == (
        "the run's threads were put off a CPU 2001 times, above 2000, while other processes used "
        "2.0% of the CPUs: they compete with each other; try fewer threads or ranks"
    )
    assert _judge({}, {"involuntary_switches": 2010}).findings == ()


def test_switches_for_the_sake_of_others_are_a_part_of_the_noise() -> None:
    made = _judge({}, {"involuntary_switches": 5010, "own_cpu_s": 15.0})
    assert made.noisy
    assert made.findings[1].endswith("put off a CPU 5000 times, above 2000, for others")


def test_a_slow_governor_is_told() -> None:
    made = _judge({"governor": "powersave"})
    assert not made.noisy
    assert made.findings[0].startswith("the CPU frequency governor is powersave")


def test_what_could_not_be_read_is_said() -> None:
    unread = dict.fromkeys(
        ["load_average_1min", "runnable_others", "cpu_times", "throttled_count", "throttled_s",
         "spin", "governor", "turbo"]
    )  # fmt: skip
    made = _judge(unread, unread)
    assert not made.noisy
    (told,) = made.findings
    assert told == (
        "not readable here, so not known to be fine: load average, runnable threads of other "
        "processes, CPU time of other processes and steal, cgroup throttling, spin jitter, CPU "
        "frequency governor"
    )


def test_one_unreadable_end_is_enough() -> None:
    assert "steal" in _judge({}, {"cpu_times": None}).findings[0]
    assert "throttling" in _judge({}, {"throttled_count": None}).findings[0]


def test_document_has_the_agreed_keys_and_is_json() -> None:
    told = json.loads(json.dumps(_judge().to_dict(), allow_nan=False))
    assert list(told) == ["noisy", "findings", "before", "after"]
    assert told["before"]["spin"]["max_gap_ms"] == 0.1
