"""Everything that makes a number doubtful, in one place; each ends with what to try."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from neuronc.bench import metrics
from neuronc.bench.engine_protocol import StepLike
from neuronc.bench.environment import Environment
from neuronc.bench.timeline import Timeline
from neuronc.bench.workload import Workload

MIN_SAMPLES_FOR_P99 = 100  # with fewer, p99 lies between the two largest samples
SLOW_FIRST_STEP = 3.0
MIN_STEPS_TO_COMPARE = 4
LOW_OCCUPANCY = 0.9


def find_caveats(
    timeline: Timeline,
    workload: Workload,
    batch_size: int,
    environment: Environment,
    warm_steps: Sequence[StepLike],
) -> tuple[str, ...]:
    """Warnings about a run, none if nothing speaks against it.

    ``environment`` was read before the run; ``warm_steps`` are the steps of the warm-up.
    """
    return (
        *busy_machine(environment),
        *_cold_programs(timeline, warm_steps),
        *_slow_first_steps(timeline),
        *_few_samples(timeline, workload),
        *_undefined_gaps(workload),
        *_idle_slots(timeline, workload, batch_size),
        *_waiting_for_slots(timeline, workload, batch_size),
    )


def busy_machine(environment: Environment) -> Iterator[str]:
    """Whether the machine had other work."""
    load, threads = environment.get("load_average_1min"), environment.get("threads_visible")
    if isinstance(load, float) and isinstance(threads, int) and load > threads:
        yield (
            f"the machine was busy before the start: load average {load:.1f} on {threads} threads; "
            "try again when it is idle"
        )


def _cold_programs(timeline: Timeline, warm_steps: Sequence[StepLike]) -> Iterator[str]:
    warm, timed = ({(s.phase, s.bucket) for s in steps} for steps in (warm_steps, timeline.steps))
    for phase, bucket in sorted(timed - warm):
        yield (
            f"the {phase} program of bucket {bucket} ran for the first time inside the timed run; "
            "try a larger --warmup-requests"
        )


def _slow_first_steps(timeline: Timeline) -> Iterator[str]:
    groups: defaultdict[tuple[str, int], list[StepLike]] = defaultdict(list)
    for step in timeline.steps:
        groups[step.phase, step.bucket].append(step)
    for (phase, bucket), steps in sorted(groups.items()):
        first_ms, *others_ms = map(metrics.one_step_ms, steps)
        if len(steps) < MIN_STEPS_TO_COMPARE or first_ms <= SLOW_FIRST_STEP * median(others_ms):
            continue
        yield (
            f"the first {phase} step of bucket {bucket} took {first_ms:.1f} ms, the median of the "
            f"others is {median(others_ms):.1f} ms; try a larger --warmup-requests"
        )


def _few_samples(timeline: Timeline, workload: Workload) -> Iterator[str]:
    num_samples = len(timeline.requests)
    if num_samples < MIN_SAMPLES_FOR_P99:
        names = "ttft_ms, e2e_ms" if workload.new_tokens == 1 else "ttft_ms, tpot_ms, e2e_ms"
        yield (
            f"p99 of {names} rests on {num_samples} samples, little more than their "
            f"maximum; try --requests {MIN_SAMPLES_FOR_P99} or more"
        )


def _undefined_gaps(workload: Workload) -> Iterator[str]:
    if workload.new_tokens == 1:
        yield "one new token has no successor, so tpot_ms and itl_ms are null; try --new-tokens 2"


def _idle_slots(timeline: Timeline, workload: Workload, batch_size: int) -> Iterator[str]:
    decode = [step for step in timeline.steps if step.phase == "decode"]
    total_ms = sum(map(metrics.one_step_ms, decode))
    if workload.concurrency is None or total_ms == 0:  # an open loop is as full as its arrivals
        return
    busy = sum(metrics.one_step_ms(step) * step.active_slots for step in decode) / total_ms
    if busy >= LOW_OCCUPANCY * batch_size:
        return
    low = workload.concurrency < batch_size
    try_this = f"--concurrency {batch_size}" if low else f"--requests {8 * batch_size} or more"
    yield (
        f"on average {busy:.1f} of {batch_size} slots were busy in decode, so output_tokens_per_s "
        f"is not what the artifact can give; try {try_this}"
    )


def _waiting_for_slots(timeline: Timeline, workload: Workload, batch_size: int) -> Iterator[str]:
    if workload.concurrency is not None and workload.concurrency > batch_size:
        yield (
            f"{workload.concurrency} requests in flight share {batch_size} slots, so ttft_ms holds "
            f"the wait for a slot; try --concurrency {batch_size}"
        )
    if workload.rate is None:
        return
    last_arrival_ns = max(request.start_ns for request in timeline.requests)
    num_waiting = sum(r.token_times_ns[0] > last_arrival_ns for r in timeline.requests)
    if num_waiting > batch_size + 1:
        yield (
            f"{num_waiting} requests waited for their first token at the last arrival, so ttft_ms "
            f"grows with the length of the run; try a --rate below {workload.rate:g}"
        )
