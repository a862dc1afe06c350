import os
from pathlib import Path
from typing import Any

import pytest

from neuronc.bench import noise_sample
from neuronc.bench.noise_sample import read_cpu_times, read_noise
from neuronc.bench.spin_jitter import SpinJitter, measure_spin_jitter, summarise_gaps

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STAT = """cpu  9 9 9 9 9 9 9 9 9 9
cpu0 100 10 20 1000 50 3 4 5 60 7
cpu1 200 0 30 2000 0 0 1 10 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
intr 12345
"""


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_cpu_times_are_of_the_cpus_asked_for(tmp_path: Path) -> None:
    root = _write(tmp_path, {"proc/stat": STAT})
    one, both = read_cpu_times(root, [0]), read_cpu_times(root, [0, 1])
    assert one is not None
    assert both is not None
    assert one.steal_s == pytest.approx(5 * TICK_S)
    assert one.busy_s == pytest.approx(137 * TICK_S)  # guest time is in user time already
    assert one.total_s == pytest.approx(1192 * TICK_S)
    assert both.steal_s == pytest.approx(15 * TICK_S)
    assert read_cpu_times(root, [2]) is None
    assert read_cpu_times(root, []) is None


def test_own_runnable_threads_are_not_others(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/loadavg": "0.50 1.00 2.00 5/300 4242\n",
            "proc/self/task/1/stat": "1 (main) R 0 1",
            "proc/self/task/2/stat": "2 (a) R (b) S 0 1",
            "proc/self/task/3/stat": "3 (pool) R 0 1",
        },
    )
    sample = read_noise(root=root, spin=False)
    assert (sample.load_average_1min, sample.runnable_others) == (0.5, 3.0)


def test_no_more_own_than_all_runnable_threads(tmp_path: Path) -> None:
    files = {"proc/loadavg": "0 0 0 1/300 4242"}
    files |= {f"proc/self/task/{n}/stat": f"{n} (x) R 0" for n in range(3)}
    assert read_noise(root=_write(tmp_path, files), spin=False).runnable_others == 0.0


def test_time_of_children_that_live_is_no_others(tmp_path: Path) -> None:
    numbers = " ".join(map(str, range(1, 20)))  # of ppid and on: utime to cstime are 11 to 14
    files = {"proc/self/task/1/children": "42 43 ", "proc/self/task/2/children": ""}
    files |= {"proc/42/stat": f"42 (rank 0) x) S {numbers}", "proc/43/stat": ""}
    root = _write(tmp_path, files)
    alone = read_noise(root=tmp_path / "nothing", spin=False).own_cpu_s
    with_children = read_noise(root=root, spin=False).own_cpu_s
    assert with_children - alone == pytest.approx((11 + 12 + 13 + 14) * TICK_S, abs=0.2)


def test_nothing_readable_is_none_and_never_zero(tmp_path: Path) -> None:
    sample = read_noise(root=tmp_path, spin=False)
    told = sample.to_dict()
    unread = ["load_average_1min", "runnable_others", "cpu_times", "throttled_count"]
    unread += ["throttled_s", "spin", "governor", "turbo"]
    assert {name: told[name] for name in unread} == dict.fromkeys(unread)


@pytest.mark.parametrize(
    ("group", "path", "text"),
    [
        ("0::/a/b", "a/b/cpu.stat", "usage_usec 9\nnr_throttled 7\nthrottled_usec 2500000"),
        ("0::/a/b", "cpu.stat", "nr_throttled 7\nthrottled_usec 2500000"),
        ("3:cpu,cpuacct:/a", "cpu,cpuacct/a/cpu.stat", "nr_throttled 7\nthrottled_time 2500000000"),
        ("2:cpuacct:/\n1:cpu:/\n0::/", "cpu/cpu.stat", "nr_throttled 7\nthrottled_time 2500000000"),
    ],
)
def test_throttling_of_either_cgroup_version(
    tmp_path: Path, group: str, path: str, text: str
) -> None:
    root = _write(tmp_path, {"proc/self/cgroup": group, f"sys/fs/cgroup/{path}": text})
    sample = read_noise(root=root, spin=False)
    assert (sample.throttled_count, sample.throttled_s) == (7, 2.5)


def test_a_cgroup_without_a_quota_is_passed_over(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a\n1:cpu:/a",
        "sys/fs/cgroup/a/cpu.stat": "usage_usec 9",
        "sys/fs/cgroup/cpu/a/cpu.stat": "nr_throttled 0\nthrottled_time 0",
    }
    assert read_noise(root=_write(tmp_path, files), spin=False).throttled_count == 0


@pytest.mark.parametrize(
    ("path", "text", "turbo"),
    [("intel_pstate/no_turbo", "1", False), ("intel_pstate/no_turbo", "0", True),
     ("cpufreq/boost", "1", True), ("cpufreq/boost", "0", False)],
)  # fmt: skip
def test_turbo_and_governor(tmp_path: Path, path: str, text: str, turbo: bool) -> None:
    base = "sys/devices/system/cpu"
    files = {f"{base}/{path}": text, f"{base}/cpu0/cpufreq/scaling_governor": "powersave\n"}
    sample = read_noise(root=_write(tmp_path, files), spin=False)
    assert (sample.turbo, sample.governor) == (turbo, "powersave")


def test_this_machine_can_be_read() -> None:
    before = read_noise(spin=False)
    total = sum(number * number for number in range(300_000))
    after = read_noise(spin=False, closing=True)
    assert total
    assert after.own_cpu_s > before.own_cpu_s
    assert after.involuntary_switches >= before.involuntary_switches


@pytest.mark.parametrize(
    ("closing", "order"), [(True, ["counters", "spin"]), (False, ["spin", "counters"])]
)
def test_counters_leave_the_probes_out(
    closing: bool, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    counters = noise_sample._counters

    def spin() -> SpinJitter:
        done.append("spin")
        return measure_spin_jitter(0.001)

    def count(root: Path) -> dict[str, Any]:
        done.append("counters")
        return counters(root)

    monkeypatch.setattr(noise_sample, "measure_spin_jitter", spin)
    monkeypatch.setattr(noise_sample, "_counters", count)
    assert read_noise(closing=closing).spin is not None
    assert done == order


def test_spinning_sees_no_time_twice() -> None:
    found = measure_spin_jitter(0.02)
    assert found.duration_ms >= 20
    assert 0 < found.resolution_ns < 1e6
    assert 0 <= found.lost_share <= 1
    assert found.p99_9_gap_ms <= max(found.max_gap_ms, 0.001)
    assert found.max_gap_ms <= found.duration_ms


def test_gaps_are_summarised_over_all_readings() -> None:
    """Of 3000 readings, 3 are larger than p99.9, which is the fourth; 20 us is not yet lost."""
    gaps = [5000, 20_000, 1_000_000, 9000, 30_000]
    found = summarise_gaps(gaps, count=3000, duration_ns=10_000_000, smallest_ns=40)
    assert (found.max_gap_ms, found.p99_9_gap_ms) == (1.0, 0.009)
    assert found.lost_share == pytest.approx(0.103)
    few = summarise_gaps([5000], count=3000, duration_ns=10_000_000, smallest_ns=40)
    assert (few.max_gap_ms, few.p99_9_gap_ms) == (0.005, 0.001)
