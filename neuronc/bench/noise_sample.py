"""What else the machine did, read before and after a run. What cannot be read is None."""

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.bench.environment import threads_visible
from neuronc.bench.spin_jitter import SpinJitter, measure_spin_jitter

RUNNABLE_READINGS = 10
RUNNABLE_PAUSE_S = 0.005
_ROOT = Path("/")
_IDLE, _IOWAIT, _STEAL = 3, 4, 7  # columns of a cpu line in /proc/stat, proc(5)
_CHILD_TIMES = slice(11, 15)  # utime to cstime, counted from the state after the name, proc(5)
_COUNTED = 8  # guest time, the columns after steal, is in user time already


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuTimes:
    """CPU seconds since boot of the CPUs this process may use, from ``/proc/stat``.

    Attributes:
        busy_s: Not idle, not waiting for a disk, not stolen; of all processes.
        steal_s: The hypervisor gave to other machines while there was work.
        total_s: All of it.
    """

    busy_s: float
    steal_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseSample:
    """A moment's counters and probes.

    Attributes:
        cpus: CPUs this process may use.
        machine_cpus: CPUs there are; load average and runnable threads are of all of them.
        load_average_1min: Of the whole machine.
        runnable_others: Mean number of threads of other processes that ran or waited for a CPU.
        cpu_times: See `CpuTimes`.
        own_cpu_s: CPU seconds of this process, all threads, and of its children, alive or ended: ranks
            may run in processes of their own.
        throttled_count: Periods in which the cgroup's quota ran out.
        throttled_s: Time its threads were held back.
        involuntary_switches: Of this process's threads.
        major_faults: Pages it had to wait for a disk for.
        spin: See `SpinJitter`; None if it was not asked for.
        governor: Of the first CPU's frequency.
        turbo: Whether frequencies above the nominal one are allowed.
    """

    cpus: int | None
    machine_cpus: int | None
    load_average_1min: float | None
    runnable_others: float | None
    cpu_times: CpuTimes | None
    own_cpu_s: float
    throttled_count: int | None
    throttled_s: float | None
    involuntary_switches: int
    major_faults: int
    spin: SpinJitter | None
    governor: str | None
    turbo: bool | None

    def to_dict(self) -> dict[str, Any]:
        """The same by name."""
        return asdict(self)


def read_noise(*, closing: bool = False, spin: bool = True, root: Path = _ROOT) -> NoiseSample:
    """Read the counters and run the probes, about 0.25 s; this process should be idle meanwhile.

    Args:
        closing: The sample after a run reads its counters first, the one before reads them last:
            then they are of the run alone, not of the probes.
        spin: Whether to run the spin-jitter probe.
        root: What ``/proc`` and ``/sys`` are looked for in.
    """
    counters = _counters(root) if closing else {}
    others = _runnable_others(root)
    jitter = measure_spin_jitter() if spin else None
    return NoiseSample(
        cpus=threads_visible(),
        machine_cpus=os.cpu_count(),
        load_average_1min=_load_average(root),
        runnable_others=others,
        spin=jitter,
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        turbo=_turbo(root),
        **(counters or _counters(root)),
    )


def _counters(root: Path) -> dict[str, Any]:
    """What only ever grows, read at one moment."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    throttled_count, throttled_s = _throttled(root)
    return {
        "cpu_times": read_cpu_times(root, _visible_cpus()),
        "own_cpu_s": sum(u.ru_utime + u.ru_stime for u in (usage, ended)) + _children_s(root),
        "throttled_count": throttled_count,
        "throttled_s": throttled_s,
        "involuntary_switches": usage.ru_nivcsw,
        "major_faults": usage.ru_majflt,
    }


def _children_s(root: Path) -> float:
    """CPU seconds of the children that live, and of those of theirs that have ended."""
    spent = 0
    for path in (root / "proc/self/task").glob("*/children"):
        for pid in (_read(path) or "").split():
            stat = _read(root / "proc" / pid / "stat") or ""
            spent += sum(map(int, stat.rpartition(")")[2].split()[_CHILD_TIMES]))
    return spent / os.sysconf("SC_CLK_TCK")


def read_cpu_times(root: Path, cpus: Iterable[int]) -> CpuTimes | None:
    """The sum over ``cpus``; None if one of them has no line."""
    lines = (line.split() for line in (_read(root / "proc/stat") or "").splitlines())
    by_cpu = {fields[0]: fields[1 : 1 + _COUNTED] for fields in lines if fields}
    names = [f"cpu{cpu}" for cpu in cpus]
    if not names or any(len(by_cpu.get(name, ())) < _COUNTED for name in names):
        return None
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    columns = [sum(map(int, column)) for column in zip(*(by_cpu[n] for n in names), strict=True)]
    total, steal = sum(columns), columns[_STEAL]
    busy = total - steal - columns[_IDLE] - columns[_IOWAIT]
    return CpuTimes(busy_s=busy * tick_s, steal_s=steal * tick_s, total_s=total * tick_s)


def _visible_cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _load_average(root: Path) -> float | None:
    fields = (_read(root / "proc/loadavg") or "").split()
    return float(fields[0]) if fields else None


def _runnable_others(root: Path) -> float | None:
    """Runnable threads of the machine less this process's own, mean of some readings."""
    readings = []
    for number in range(RUNNABLE_READINGS):
        if number:
            time.sleep(RUNNABLE_PAUSE_S)
        runnable, own = _runnable(root), _runnable_own(root)
        if runnable is None or own is None:
            return None
        readings.append(max(0, runnable - own))
    return sum(readings) / len(readings)


def _runnable(root: Path) -> int | None:
    fields = (_read(root / "proc/loadavg") or "").split()
    return int(fields[3].split("/")[0]) if len(fields) > 3 else None


def _runnable_own(root: Path) -> int | None:
    stats = [_read(path) for path in (root / "proc/self/task").glob("*/stat")]
    states = [stat.rpartition(")")[2].split()[0] for stat in stats if stat]
    return states.count("R") if states else None


def _throttled(root: Path) -> tuple[int | None, float | None]:
    """Periods and seconds the cgroup was held back, by its version 2 or 1 controller."""
    for path in _cpu_stat_paths(root):
        lines = (line.split() for line in (_read(path) or "").splitlines())
        found = {fields[0]: int(fields[1]) for fields in lines if len(fields) == 2}
        if "nr_throttled" in found:
            in_ns = found.get("throttled_time")  # version 1
            in_us = found.get("throttled_usec", 0)
            return found["nr_throttled"], in_us / 1e6 if in_ns is None else in_ns / 1e9
    return None, None


def _cpu_stat_paths(root: Path) -> Iterable[Path]:
    """Where this process's group may keep ``cpu.stat``, its own folder before the mount's top."""
    mount = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in (mount / controllers, mount / "cpu") if controllers else (mount,):
            yield top / group.lstrip("/") / "cpu.stat"
            yield top / "cpu.stat"  # in a container the mount's top is the group


def _turbo(root: Path) -> bool | None:
    base = root / "sys/devices/system/cpu"
    forbidden, boost = _read(base / "intel_pstate/no_turbo"), _read(base / "cpufreq/boost")
    if forbidden is not None:
        return forbidden == "0"
    return None if boost is None else boost == "1"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:  # not Linux, hidden by a sandbox, or a thread that has ended
        return None
