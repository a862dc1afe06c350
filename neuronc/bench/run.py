"""Warm up, run, report."""

import gc
from collections.abc import Collection
from typing import TypeVar

from neuronc.bench.caveats import find_caveats
from neuronc.bench.drive import Clock, Driver, PerfClock
from neuronc.bench.engine_protocol import (
    EngineFactory,
    RequestFactory,
    RequestT,
    SessionLike,
    StepLike,
)
from neuronc.bench.environment import peak_rss_bytes, peak_rss_of_children_bytes, read_environment
from neuronc.bench.report import BenchReport
from neuronc.bench.timeline import Timeline
from neuronc.bench.workload import (
    TimedRequest,
    Workload,
    allowed_ids,
    fit_workload,
    make_requests,
    random_prompt,
)
from neuronc.progress import SILENT, Progress

SessionT = TypeVar("SessionT", bound=SessionLike)


def run_benchmark(
    session: SessionT,
    engine_factory: EngineFactory[SessionT, RequestT],
    workload: Workload,
    *,
    make_request: RequestFactory[RequestT],
    artifact_digest: str,
    target: str,
    forbidden_ids: Collection[int] = (),
    progress: Progress = SILENT,
    clock: Clock | None = None,
) -> BenchReport:
    """Measure ``workload`` on ``session``.

    Every program runs before the clock starts. ``target`` names what executes the programs here,
    which need not be what else the artifact was compiled for. Prompts hold no ``forbidden_ids``
    (special tokens), and nothing but its length ends a request.

    Raises:
        PlanError: The workload does not fit the artifact.
        BenchmarkError: The engine failed or gave other tokens than asked for.
    """
    workload = fit_workload(workload, batch_size=session.batch_size, max_length=session.max_length)
    requests = make_requests(workload, session.vocab_size, forbidden_ids)
    environment = read_environment()
    steps: list[StepLike] = []
    driver = Driver(
        engine=engine_factory(session, on_step=steps.append),
        make_request=make_request,
        clock=clock or PerfClock(),
        steps=steps,
        vocab_size=session.vocab_size,
    )
    warmup = warmup_requests(session, workload, forbidden_ids)
    warm_steps = _drive(driver, "warm up", warmup, 1, progress).steps
    gc.collect()  # the rubbish of loading and warming up is not the run's
    timeline = _drive(driver, "benchmark", requests, workload.concurrency, progress)
    environment["children_peak_rss_bytes"] = peak_rss_of_children_bytes()
    return BenchReport(
        timeline=timeline,
        workload=workload,
        target=target,
        artifact_digest=artifact_digest,
        load_s=session.load_s,
        peak_rss_bytes=peak_rss_bytes(),
        environment=environment,
        warnings=find_caveats(timeline, workload, session.batch_size, environment, warm_steps),
    )


def warmup_requests(
    session: SessionLike, workload: Workload, forbidden_ids: Collection[int]
) -> tuple[TimedRequest, ...]:
    """A request that ends in each prefill and each decode bucket, then some like the workload's."""
    allowed = allowed_ids(session.vocab_size, forbidden_ids)
    new_tokens = min(2, session.max_length - 1)  # the second token takes a decode step
    lengths = {
        # the decode step writes one position after the prompt, which must be in the bucket too
        *(max(1, bucket - new_tokens) for bucket in session.decode_buckets),
        *(min(bucket, session.max_length - new_tokens) for bucket in session.prefill_buckets),
    }
    shapes = {f"warmup/length/{length}": (length, new_tokens) for length in sorted(lengths)}
    for i in range(workload.warmup_requests):
        shapes[f"warmup/{i}"] = (workload.prompt_tokens, workload.new_tokens)
    return tuple(
        TimedRequest(
            request_id=name,
            prompt_ids=random_prompt(workload.seed, name, prompt_tokens, allowed),
            new_tokens=new_tokens,
        )
        for name, (prompt_tokens, new_tokens) in shapes.items()
    )


def _drive(
    driver: Driver[RequestT],
    title: str,
    requests: tuple[TimedRequest, ...],
    concurrency: int | None,
    progress: Progress,
) -> Timeline:
    with progress.stage(title, total=len(requests), unit="requests") as stage:
        return driver.drive(requests, concurrency=concurrency, on_finish=stage.advance)
