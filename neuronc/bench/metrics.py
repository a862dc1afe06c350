"""Every number a run is reduced to: formula, unit, and when it is undefined.

The first line of each docstring is the formula that reports carry. t_sched is a request's
scheduled arrival (in a closed loop, which schedules nothing, when it was sent), t_send when the
engine was given it, t_1 to t_n when its n tokens could be read on the host. An undefined metric is
None or has no samples; it is never 0. Requests that failed have no latency; they are counted.
"""

import inspect
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from neuronc.bench.engine_protocol import StepLike
from neuronc.bench.timeline import RequestRecord, Timeline

NS_PER_MS = 1e6
NS_PER_S = 1e9


def ttft_ms(request: RequestRecord) -> float | None:
    """t_1 - t_sched."""
    return _ms(request.sched_ns, request.token_times_ns[0]) if request.is_done else None


def ttft_send_ms(request: RequestRecord) -> float | None:
    """t_1 - t_send."""
    if not request.is_done or request.send_ns is None:
        return None
    return _ms(request.send_ns, request.token_times_ns[0])


def tpot_ms(request: RequestRecord) -> float | None:
    """(t_n - t_1) / (n - 1) of each request; undefined for n = 1."""
    times = request.token_times_ns
    if not request.is_done or len(times) < 2:
        return None
    return _ms(times[0], times[-1]) / (len(times) - 1)


def itl_ms(request: RequestRecord) -> tuple[float, ...]:
    """t_(j+1) - t_j for every j from 1 to n - 1, gaps of all requests pooled."""
    if not request.is_done:
        return ()
    return tuple(_ms(before, after) for before, after in pairwise(request.token_times_ns))


def e2e_ms(request: RequestRecord) -> float | None:
    """t_n - t_sched."""
    return _ms(request.sched_ns, request.token_times_ns[-1]) if request.is_done else None


def norm_ms(request: RequestRecord) -> float | None:
    """(t_n - t_sched) / n: time per token with the wait for the first one in it."""
    if not request.is_done:
        return None
    return _ms(request.sched_ns, request.token_times_ns[-1]) / len(request.token_times_ns)


def queue_ms(timeline: Timeline) -> tuple[float, ...]:
    """Start of the request's first program - t_sched: the wait for a slot and for its turn."""
    started = first_step_ns(timeline)
    return tuple(_ms(r.sched_ns, started[r.request_id]) for r in timeline.done)


def late_ms(request: RequestRecord) -> float | None:
    """t_send - t_sched, of an open loop: requests are sent between programs, so one that runs counts."""
    if not request.is_done or request.send_ns is None:
        return None
    return _ms(request.sched_ns, request.send_ns)


def late_own_ms(timeline: Timeline) -> tuple[float, ...]:
    """t_send - the later of t_sched and the end of the program that ran then: the generator's own."""
    starts = [step.start_ns for step in timeline.steps]
    found = []
    for request in timeline.done:
        at = bisect_right(starts, request.sched_ns) - 1
        free_ns = timeline.steps[at].end_ns if at >= 0 else request.sched_ns
        sent_ns = request.sched_ns if request.send_ns is None else request.send_ns
        found.append(_ms(min(sent_ns, max(request.sched_ns, free_ns)), sent_ns))
    return tuple(found)


def prefill_ms(timeline: Timeline) -> tuple[float, ...]:
    """Time in the prefill programs of a request, all its chunks."""
    spent: dict[str, float] = {}
    for step in timeline.steps:
        if step.phase == "prefill":
            spent[step.request_ids[0]] = spent.get(step.request_ids[0], 0.0) + step_ms(step)
    return tuple(spent[request.request_id] for request in timeline.done)


def duration_s(timeline: Timeline) -> float | None:
    """Last token of the run - first t_sched, ramp-up and drain included; to its end if one failed.

    Undefined if no time passed or no token came.
    """
    ends_ns = [r.token_times_ns[-1] for r in timeline.requests if r.token_times_ns]
    if not ends_ns:
        return None
    end_ns = timeline.end_ns if timeline.num_failed else max(ends_ns)
    elapsed_ns = end_ns - min(request.sched_ns for request in timeline.requests)
    return elapsed_ns / NS_PER_S if elapsed_ns > 0 else None


def output_tokens_per_s(timeline: Timeline) -> float | None:
    """Generated tokens / duration; prompts and padding never count."""
    return _per_s(sum(len(r.token_times_ns) for r in timeline.requests), timeline)


def total_tokens_per_s(timeline: Timeline) -> float | None:
    """(Prompt tokens + generated tokens) of requests that ended / duration; padding never counts."""
    return _per_s(sum(r.prompt_tokens + len(r.token_times_ns) for r in timeline.done), timeline)


def requests_per_s(timeline: Timeline) -> float | None:
    """Requests that ended / duration."""
    return _per_s(len(timeline.done), timeline)


def occupancy(timeline: Timeline) -> float | None:
    """Sum of (slots in use x time) / (slots x time), over decode steps."""
    decode = [step for step in timeline.steps if step.phase == "decode"]
    total_ms = timeline.batch_size * sum(map(step_ms, decode))
    return sum(len(s.slots) * step_ms(s) for s in decode) / total_ms if total_ms else None


def pad_waste(timeline: Timeline) -> float | None:
    """1 - real prompt tokens / tokens of the buckets that they ran in."""
    prefill = [step for step in timeline.steps if step.phase == "prefill"]
    ran = sum(step.bucket for step in prefill)
    return 1 - sum(step.num_tokens for step in prefill) / ran if ran else None


def useful(timeline: Timeline) -> float | None:
    """Real tokens / token positions computed, where a decode step computes every slot."""
    computed = sum(
        step.bucket if step.phase == "prefill" else timeline.batch_size for step in timeline.steps
    )
    return sum(step.num_tokens for step in timeline.steps) / computed if computed else None


def host_gap_ms(timeline: Timeline) -> tuple[float, ...]:
    """Start of a program - end of the one before it: sampling, scheduling, recording.

    A gap in which the run waited for the next arrival is no sample. A decode step that was started
    ahead follows the one before it at once.
    """
    return tuple(
        _ms(before.end_ns, after.start_ns)
        for position, (before, after) in enumerate(pairwise(timeline.steps), start=1)
        if position not in timeline.idle_before
    )


def stalled_itl_ms(timeline: Timeline) -> tuple[float, ...]:
    """The gaps between two tokens of a request in which another request's prefill ran."""
    found = stalled_itl_by_request(timeline)
    return tuple(gap for gaps in found.values() for gap in gaps)


def stalled_itl_by_request(timeline: Timeline) -> dict[str, tuple[float, ...]]:
    """`stalled_itl_ms` of each request by its id."""
    starts_ns = sorted(step.start_ns for step in timeline.steps if step.phase == "prefill")
    return {
        request.request_id: tuple(
            _ms(before, after)
            for before, after in pairwise(request.token_times_ns)
            if bisect_left(starts_ns, after) > bisect_left(starts_ns, before)
        )
        for request in timeline.done
    }


def step_ms(step: StepLike) -> float:
    """End - start of one program, its logits on the host."""
    return _ms(step.start_ns, step.end_ns)


def step_class(step: StepLike) -> str:
    """``decode/256``: steps of one class do the same work."""
    return f"{step.phase}/{step.bucket}"


def first_step_ns(timeline: Timeline) -> dict[str, int]:
    """When the first program of each request began, by its id."""
    found: dict[str, int] = {}
    for step in timeline.steps:
        for request_id in step.request_ids:
            found.setdefault(request_id, step.start_ns)
    return found


def samples_by_request(name: str, timeline: Timeline) -> dict[str, tuple[float, ...]]:
    """The samples of `SAMPLES` by request id; of a request that has none, nothing."""
    metric = _OF_REQUEST.get(name)
    if metric is None:
        samples = SAMPLES[name](timeline)
        return {r.request_id: (v,) for r, v in zip(timeline.done, samples, strict=True)}
    found = ((r.request_id, metric(r)) for r in timeline.requests)
    return {i: v if isinstance(v, tuple) else (v,) for i, v in found if v is not None and v != ()}


def _each(metric: Callable[[RequestRecord], float | None]) -> "Samples":
    def samples(timeline: Timeline) -> tuple[float, ...]:
        found = map(metric, timeline.requests)
        return tuple(value for value in found if value is not None)

    return samples


def _all_itl_ms(timeline: Timeline) -> tuple[float, ...]:
    return tuple(gap for request in timeline.requests for gap in itl_ms(request))


def _per_s(count: int, timeline: Timeline) -> float | None:
    elapsed_s = duration_s(timeline)
    return None if elapsed_s is None else count / elapsed_s


def _ms(begin_ns: int, end_ns: int) -> float:
    return (end_ns - begin_ns) / NS_PER_MS


_OF_REQUEST: Mapping[str, Callable[[RequestRecord], float | tuple[float, ...] | None]] = {
    "ttft_ms": ttft_ms,
    "ttft_send_ms": ttft_send_ms,
    "tpot_ms": tpot_ms,
    "itl_ms": itl_ms,
    "e2e_ms": e2e_ms,
    "norm_ms": norm_ms,
    "late_ms": late_ms,
}
Samples = Callable[[Timeline], tuple[float, ...]]
Scalar = Callable[[Timeline], float | None]

SAMPLES: Mapping[str, Samples] = {
    "ttft_ms": _each(ttft_ms),
    "ttft_send_ms": _each(ttft_send_ms),
    "queue_ms": queue_ms,
    "prefill_ms": prefill_ms,
    "tpot_ms": _each(tpot_ms),
    "itl_ms": _all_itl_ms,
    "e2e_ms": _each(e2e_ms),
    "norm_ms": _each(norm_ms),
    "late_ms": _each(late_ms),
    "late_own_ms": late_own_ms,
}
"""Metrics with many values a run, which percentiles are taken of."""

SCALARS: Mapping[str, Scalar] = {
    "output_tokens_per_s": output_tokens_per_s,
    "total_tokens_per_s": total_tokens_per_s,
    "requests_per_s": requests_per_s,
    "duration_s": duration_s,
    "occupancy": occupancy,
    "pad_waste": pad_waste,
    "useful": useful,
}
"""Metrics with one value a run."""

SHARES = frozenset({"occupancy", "pad_waste", "useful", "attainment", "fluidity", "kept_up"})
"""Those, and others of a run, that are at most 1."""


def _formula(function: Callable[..., object]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


_DEFINED: Sequence[Callable[..., object]] = (
    *(ttft_ms, ttft_send_ms, queue_ms, prefill_ms, tpot_ms, itl_ms, e2e_ms, norm_ms),
    *(late_ms, late_own_ms),
    *SCALARS.values(),
    *(host_gap_ms, stalled_itl_ms, step_ms),
)

DEFINITIONS: dict[str, str] = {metric.__name__: _formula(metric) for metric in _DEFINED}
