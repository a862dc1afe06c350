"""Everything that makes a number doubtful, in one place; each ends with what to try."""

from collections.abc import Iterator

from neuronc.bench.alone import SHARE
from neuronc.bench.environment import Environment
from neuronc.bench.modes.runs import RunSet
from neuronc.bench.run import Measured
from neuronc.bench.statistics.outliers import outlier_findings

MIN_SAMPLES_FOR_P99 = (
    299  # below, no sample is above the p99 with 95 % certainty: ln 0.05 / ln 0.99
)
LOW_OCCUPANCY = 0.9
LATE = 0.01
"""Of the time to the first token, which the generator may be late without a word."""


def find_caveats(measured: Measured, *, batch_size: int, verified: bool) -> tuple[str, ...]:
    """Warnings about a benchmark, none if nothing speaks against it."""
    found = [caveat for run_set in measured.runs for caveat in _of_runs(run_set, batch_size)]
    return (*dict.fromkeys(found), *_of_cells(measured), *_of_tokens(measured, verified=verified))


def busy_machine(environment: Environment) -> Iterator[str]:
    """Whether the machine had other work."""
    load, threads = environment.get("load_average_1min"), environment.get("threads_visible")
    if isinstance(load, float) and isinstance(threads, int) and load > threads:
        yield (
            f"the machine was busy before the start: load average {load:.1f} on {threads} threads; "
            "try again when it is idle"
        )


def _of_runs(found: RunSet, batch_size: int) -> Iterator[str]:
    yield from _few_repeats(found)
    yield from _few_samples(found)
    yield from _odd_repeats(found)
    yield from _idle_slots(found, batch_size)
    yield from _failed(found)
    yield from _late(found)
    if all(request.new_tokens == 1 for request in found.mode.requests):
        yield "one new token has no successor, so tpot_ms and itl_ms are null; try --new-tokens 2"


def _name(found: RunSet) -> str:
    """The mode, and of a sweep which point."""
    mode, load = found.mode.mode, found.mode.load
    if mode != "sweep":
        return mode
    at = f"concurrency {load.concurrency}" if load.rate is None else f"rate {load.rate:g}"
    return f"sweep, {at}"


def _few_repeats(found: RunSet) -> Iterator[str]:
    decision = found.decision
    if decision is not None and not decision.converged:
        yield f"{_name(found)}: {decision.why}; try a larger --time-budget or more --repeats"


def _few_samples(found: RunSet) -> Iterator[str]:
    count = sum(len(timeline.done) for timeline in found.timelines)
    if count == 0:
        yield (
            f"{_name(found)}: no request was done, so there is no latency and no throughput; try"
            " less load or a larger --run-limit"
        )
    elif count < MIN_SAMPLES_FOR_P99:
        yield (
            f"{_name(found)}: p99 of a metric of requests rests on {count} of them; try"
            f" --requests so that all repeats together have {MIN_SAMPLES_FOR_P99}"
        )


def _odd_repeats(found: RunSet) -> Iterator[str]:
    values = [value for value in found.values("duration_s") if value is not None]
    for finding in outlier_findings(values, what="the duration", unit="s"):
        yield f"{_name(found)}: {finding}"


def _idle_slots(found: RunSet, batch_size: int) -> Iterator[str]:
    busy = found.mean("occupancy")
    if found.mode.mode == "throughput" and busy is not None and busy < LOW_OCCUPANCY:
        yield (
            f"throughput: on average {busy * batch_size:.1f} of {batch_size} slots were busy in"
            f" decode, so it is not what the artifact can give; try --requests {8 * batch_size}"
        )


def _late(found: RunSet) -> Iterator[str]:
    """A generator that is late by itself measures itself."""
    late, ttft = found.mean("late_own_ms.p95"), found.mean("ttft_ms.p50")
    if late is not None and ttft is not None and late > LATE * ttft:
        yield (
            f"{_name(found)}: requests were sent up to {late:.2g} ms (p95) after they were due and"
            f" no program ran, more than {LATE:.0%} of the first token's {ttft:.3g} ms; try a"
            " machine with less other work, or --concurrency"
        )


def _failed(found: RunSet) -> Iterator[str]:
    failed = sum(timeline.num_failed for timeline in found.timelines)
    if failed:
        yield (
            f"{_name(found)}: {failed} requests were not done when their run ended; they count"
            " in the tail of every percentile of requests, and itl is without them; try less load or a larger --run-limit"
        )


def _of_cells(measured: Measured) -> Iterator[str]:
    if measured.cells_left_out:
        yield (
            f"steps: {len(measured.cells_left_out)} cells at the start and the middle of the context"
            " were left out for lack of time; decode was measured at the ends of its buckets only;"
            " try a larger --time-budget"
        )


def _of_tokens(measured: Measured, *, verified: bool) -> Iterator[str]:
    if not verified:
        yield "this artifact is unverified: its tokens may be wrong; run neuronc verify"
    elif measured.tokens.tokens_checked and not measured.tokens.tokens_with_reference:
        yield (
            "no token was compared with the original model's: the artifact has no record of them"
            " for these lengths; run neuronc verify, or try shorter --prompt-tokens"
        )
    checked, requests = measured.tokens.requests_checked, measured.tokens.requests
    if checked < requests:
        yield (
            f"of {requests} timed requests, {checked} were compared whole with the record or with"
            f" their answer made alone, for which there is {SHARE:.0%} of the time budget; the others"
            " with their repeats only; try a larger --time-budget or fewer --requests"
        )
    if measured.tokens.tokens_not_repeated:
        yield (
            f"{measured.tokens.tokens_not_repeated} requests had other tokens in another run: with"
            " several decode buckets, rounding may differ"
        )
