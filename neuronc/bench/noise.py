"""Whether a run can be trusted to be about this program, and not about what else ran."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neuronc.bench.noise_sample import NoiseSample

# Above each of these a run is noisy. Intervals are meant to be within 2.5 %, so a disturbance of
# about one percent is half of what a result may be off by, and the least that is worth a word.
MAX_OTHERS_SHARE = 0.03  # of the CPUs: kernel threads and a terminal take up to 1 %
MAX_STEAL_SHARE = 0.01  # of the CPUs: each stolen slice stops a step for milliseconds
MAX_RUNNABLE_PER_CPU = 0.25  # others before the run: one thread that never sleeps on four CPUs
MAX_LOST_SHARE = 0.03  # of the spinning thread: timer interrupts of a virtual machine cost 1 %
MAX_GAP_MS = 5.0  # of it: another thread's whole time slice, as long as a decode step
MAX_THROTTLED = 0  # periods: each holds every thread back for up to 100 ms
MAX_MAJOR_FAULTS_PER_S = 1.0  # each waits for a disk for 0.1 to 10 ms
MAX_RESOLUTION_NS = 1000  # a ten-thousandth of a 10 ms step
# Told, but not called noise: it is this process's own threads where nobody else used the CPUs.
MANY_SWITCHES_PER_S = 100.0  # of a CPU: threads that take turns get slices of 3 to 10 ms

_READ_AT_BOTH_ENDS = {
    "load average": "load_average_1min",
    "runnable threads of other processes": "runnable_others",
    "CPU time of other processes and steal": "cpu_times",
    "cgroup throttling": "throttled_count",
    "spin jitter": "spin",
    "CPU frequency governor": "governor",
}
_IDLE_MACHINE = "try again when the machine is idle"
_SLOW_GOVERNORS = ("powersave", "ondemand", "conservative", "schedutil")


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """The verdict on a run.

    Attributes:
        noisy: Whether anything beyond a threshold was found.
        findings: Plain sentences: what makes it noisy, then what is worth knowing, then what could
            not be read.
    """

    noisy: bool
    findings: tuple[str, ...]
    before: NoiseSample
    after: NoiseSample

    def to_dict(self) -> dict[str, Any]:
        """As ``noise`` in the document."""
        return {
            "noisy": self.noisy,
            "findings": list(self.findings),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
        }


def judge(before: NoiseSample, after: NoiseSample, *, wall_s: float) -> Noise:
    """Compare two samples ``wall_s`` seconds apart with the thresholds of this module."""
    noise = (
        *_others_before(before),
        *_others_meanwhile(before, after),
        *_steal(before, after),
        *_throttling(before, after),
        *_spin("before", before),
        *_spin("after", after),
        *_faults(before, after, wall_s),
        *_clock(before),
    )
    remarks = (*_switches(before, after, wall_s), *_frequency(before), *_unreadable(before, after))
    return Noise(noisy=bool(noise), findings=(*noise, *remarks), before=before, after=after)


def _others_before(sample: NoiseSample) -> Iterator[str]:
    others, cpus = sample.runnable_others, sample.machine_cpus
    if others is not None and cpus is not None:
        most = MAX_RUNNABLE_PER_CPU * cpus
        if others > most:
            yield (
                f"before the run {others:.1f} threads of other processes wanted a CPU on average, "
                f"above {most:g} on {cpus} CPUs; {_IDLE_MACHINE}"
            )
    elif cpus is not None and (sample.load_average_1min or 0) > cpus:
        yield (
            f"before the run the load average was {sample.load_average_1min:.1f}, above "
            f"{cpus} CPUs; {_IDLE_MACHINE}"
        )


def _others_meanwhile(before: NoiseSample, after: NoiseSample) -> Iterator[str]:
    share = others_share(before, after)
    if share is not None and share > MAX_OTHERS_SHARE:
        yield (
            f"other processes used {share:.1%} of the CPUs during the run, above "
            f"{MAX_OTHERS_SHARE:.0%}; {_IDLE_MACHINE}"
        )


def others_share(before: NoiseSample, after: NoiseSample) -> float | None:
    """CPU time of other processes over all CPU time of the visible CPUs between two samples."""
    first, last = before.cpu_times, after.cpu_times
    if first is None or last is None or last.total_s <= first.total_s:
        return None
    others_s = last.busy_s - first.busy_s - (after.own_cpu_s - before.own_cpu_s)
    return max(0.0, others_s) / (last.total_s - first.total_s)


def _steal(before: NoiseSample, after: NoiseSample) -> Iterator[str]:
    first, last = before.cpu_times, after.cpu_times
    if first is None or last is None or last.total_s <= first.total_s:
        return
    share = (last.steal_s - first.steal_s) / (last.total_s - first.total_s)
    if share > MAX_STEAL_SHARE:
        yield (
            f"the hypervisor took {share:.1%} of the CPUs (steal), above {MAX_STEAL_SHARE:.0%}; "
            "try a dedicated instance, or another time"
        )


def _throttling(before: NoiseSample, after: NoiseSample) -> Iterator[str]:
    if before.throttled_count is None or after.throttled_count is None:
        return
    count = after.throttled_count - before.throttled_count
    if count > MAX_THROTTLED:
        held_s = (after.throttled_s or 0.0) - (before.throttled_s or 0.0)
        yield (
            f"the cgroup's CPU quota ran out {count} times and held threads back for {held_s:.2f} "
            f"s, above {MAX_THROTTLED} times; try a larger CPU limit, or fewer threads"
        )


def _spin(when: str, sample: NoiseSample) -> Iterator[str]:
    spin = sample.spin
    if spin is None:
        return
    if spin.lost_share > MAX_LOST_SHARE or spin.max_gap_ms > MAX_GAP_MS:
        yield (
            f"{when} the run a spinning thread lost {spin.lost_share:.1%} of its time, longest gap "
            f"{spin.max_gap_ms:.1f} ms (allowed {MAX_LOST_SHARE:.0%} and {MAX_GAP_MS:g} ms); "
            f"{_IDLE_MACHINE}, or pin the run to quiet CPUs with taskset"
        )


def _faults(before: NoiseSample, after: NoiseSample, wall_s: float) -> Iterator[str]:
    faults = after.major_faults - before.major_faults
    if faults > MAX_MAJOR_FAULTS_PER_S * wall_s:
        yield (
            f"{faults} page faults waited for a disk in {wall_s:.1f} s, above "
            f"{MAX_MAJOR_FAULTS_PER_S:g} per second; try more memory, or a second run"
        )


def _clock(sample: NoiseSample) -> Iterator[str]:
    spin = sample.spin
    if spin is not None and spin.resolution_ns > MAX_RESOLUTION_NS:
        yield (
            f"the clock has steps of {spin.resolution_ns} ns, above {MAX_RESOLUTION_NS}; "
            "try a machine with a finer clock source"
        )


def _switches(before: NoiseSample, after: NoiseSample, wall_s: float) -> Iterator[str]:
    switches = after.involuntary_switches - before.involuntary_switches
    most = MANY_SWITCHES_PER_S * wall_s * (before.cpus or 1)
    if switches <= most:
        return
    share = others_share(before, after)
    if share is None:
        yield f"the run's threads were put off a CPU {switches} times, above {most:.0f}"
    elif share <= MAX_OTHERS_SHARE:
        yield (
            f"the run's threads were put off a CPU {switches} times, above {most:.0f}, while other "
            f"processes used {share:.1%} of the CPUs: they compete with each other; "
            "try fewer threads or ranks"
        )
    else:
        yield f"the run's threads were put off a CPU {switches} times, above {most:.0f}, for others"


def _frequency(sample: NoiseSample) -> Iterator[str]:
    if sample.governor in _SLOW_GOVERNORS:
        yield (
            f"the CPU frequency governor is {sample.governor}, so the clock follows the load; "
            "try the performance governor"
        )


def _unreadable(before: NoiseSample, after: NoiseSample) -> Iterator[str]:
    missing = [
        words
        for words, name in _READ_AT_BOTH_ENDS.items()
        if getattr(before, name) is None or getattr(after, name) is None
    ]
    if missing:
        yield f"not readable here, so not known to be fine: {', '.join(missing)}"
