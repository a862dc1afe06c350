"""Every number a benchmark reports: formula, unit, and when it is undefined.

The first line of each docstring is the formula that reports carry. t_0 is a request's scheduled
arrival (open loop) or its submit (closed loop), t_1 to t_n are the times its n tokens could be
read on the host. An undefined metric is None or has no samples; it is never 0.
"""

import inspect
from collections import defaultdict
from itertools import pairwise

from neuronc.bench.engine_protocol import Phase, StepLike
from neuronc.bench.timeline import RequestRecord, Timeline

NS_PER_MS = 1e6
NS_PER_S = 1e9


def ttft_ms(request: RequestRecord) -> float | None:
    """t_1 - t_0, with t_0 the scheduled arrival (open loop) or the submit (closed loop).

    Undefined without a token.
    """
    times = request.token_times_ns
    return (times[0] - request.start_ns) / NS_PER_MS if times else None


def tpot_ms(request: RequestRecord) -> float | None:
    """(t_n - t_1) / (n - 1) of each request; undefined for n = 1."""
    times = request.token_times_ns
    return (times[-1] - times[0]) / (len(times) - 1) / NS_PER_MS if len(times) > 1 else None


def itl_ms(request: RequestRecord) -> tuple[float, ...]:
    """t_(j+1) - t_j for every j from 1 to n - 1, gaps of all requests pooled."""
    return tuple((after - before) / NS_PER_MS for before, after in pairwise(request.token_times_ns))


def e2e_ms(request: RequestRecord) -> float | None:
    """t_n - t_0; undefined without a token."""
    times = request.token_times_ns
    return (times[-1] - request.start_ns) / NS_PER_MS if times else None


def duration_s(timeline: Timeline) -> float | None:
    """Last token of all requests - first t_0 of all requests, ramp-up and drain included.

    Undefined if no time passed or no token came.
    """
    ends = [request.token_times_ns[-1] for request in timeline.requests if request.token_times_ns]
    if not ends:
        return None
    elapsed_ns = max(ends) - min(request.start_ns for request in timeline.requests)
    return elapsed_ns / NS_PER_S if elapsed_ns > 0 else None


def output_tokens_per_s(timeline: Timeline) -> float | None:
    """Generated tokens / duration; padding never counts."""
    return _per_s(sum(len(request.token_times_ns) for request in timeline.requests), timeline)


def input_tokens_per_s(timeline: Timeline) -> float | None:
    """Prompt tokens / duration, the same duration as output; padding never counts."""
    return _per_s(sum(request.prompt_tokens for request in timeline.requests), timeline)


def total_tokens_per_s(timeline: Timeline) -> float | None:
    """(Prompt tokens + generated tokens) / duration; padding never counts."""
    num_tokens = sum(r.prompt_tokens + len(r.token_times_ns) for r in timeline.requests)
    return _per_s(num_tokens, timeline)


def requests_per_s(timeline: Timeline) -> float | None:
    """Finished requests / duration."""
    return _per_s(len(timeline.requests), timeline)


def _per_s(count: int, timeline: Timeline) -> float | None:
    elapsed_s = duration_s(timeline)
    return None if elapsed_s is None else count / elapsed_s


def decode_step_ms(timeline: Timeline) -> tuple[float, ...]:
    """End - start of each call of a decode program (all slots, one token each)."""
    return _step_ms(timeline, "decode")


def prefill_step_ms(timeline: Timeline) -> tuple[float, ...]:
    """End - start of each call of a prefill program (one chunk of one prompt)."""
    return _step_ms(timeline, "prefill")


def _step_ms(timeline: Timeline, phase: Phase) -> tuple[float, ...]:
    return tuple(one_step_ms(step) for step in timeline.steps if step.phase == phase)


def one_step_ms(step: StepLike) -> float:
    """End - start of one call."""
    return (step.end_ns - step.start_ns) / NS_PER_MS


def step_ms_by_bucket(timeline: Timeline, phase: Phase) -> dict[int, tuple[float, ...]]:
    """The samples of one phase, apart for each bucket that ran, smallest bucket first."""
    groups: defaultdict[int, list[float]] = defaultdict(list)
    for step in timeline.steps:
        if step.phase == phase:
            groups[step.bucket].append(one_step_ms(step))
    return {bucket: tuple(groups[bucket]) for bucket in sorted(groups)}


def host_gap_ms(timeline: Timeline) -> tuple[float, ...]:
    """Start of a program call - end of the call before it, where work was pending in between.

    A gap in which the run waited for the next arrival is no sample.
    """
    return tuple(
        (after.start_ns - before.end_ns) / NS_PER_MS
        for position, (before, after) in enumerate(pairwise(timeline.steps), start=1)
        if position not in timeline.idle_before
    )


DEFINITIONS: dict[str, str] = {
    metric.__name__: (inspect.getdoc(metric) or "").partition("\n")[0]
    for metric in (
        ttft_ms,
        tpot_ms,
        itl_ms,
        e2e_ms,
        duration_s,
        output_tokens_per_s,
        input_tokens_per_s,
        total_tokens_per_s,
        requests_per_s,
        decode_step_ms,
        prefill_step_ms,
        host_gap_ms,
    )
} | {
    "load_s": "Opening the artifact until it can take a request, before the run.",
    "peak_rss_bytes": "Largest resident set of this process since it started, loading included.",
}
