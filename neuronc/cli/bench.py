"""neuronc bench: latency and throughput of an artifact."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli.options import JsonFlag, OnOption, QuietFlag, RankProcessesFlag
from neuronc.cli.output import Report
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.progress import Progress
    from neuronc.runtime.session import Session

EXAMPLES = (
    "neuronc bench artifact --prompt-tokens 32 --new-tokens 32 --requests 8",
    "neuronc bench artifact --concurrency 4 --requests 64 --json > bench.json",
)
_PROMPT_TOKENS, _NEW_TOKENS, _REQUESTS, _WARMUP_REQUESTS = 32, 32, 8, 2
_CALLS = 20
"""Of each of an encoder's programs, where --requests does not say."""


def bench(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(
            "--prompt-tokens",
            metavar="N",
            min=1,
            help=f"Of every request (default: {_PROMPT_TOKENS}).",
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        typer.Option(
            "--new-tokens", metavar="N", min=1, help=f"Of every request (default: {_NEW_TOKENS})."
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            metavar="N",
            min=1,
            help=f"Measured (default: {_REQUESTS}; an encoder's calls: {_CALLS}).",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", metavar="N", min=1, help="In flight (default: the batch size)."
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="R", help="Requests per second, Poisson arrivals."),
    ] = None,
    warmup_requests: Annotated[
        int | None,
        typer.Option(
            "--warmup-requests",
            metavar="N",
            min=0,
            help=f"Not measured (default: {_WARMUP_REQUESTS}).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N")] = 0,
    on: OnOption = None,
    rank_processes: RankProcessesFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Measure latency and throughput of an artifact.

    An encoder's: every bucket with one text and with a full batch, --requests calls of each.
    """
    from neuronc.artifact.manifest import WEIGHTS_DIR, read_manifest
    from neuronc.bench.device import measure_device
    from neuronc.bench.run import run_benchmark
    from neuronc.bench.workload import Workload
    from neuronc.cli.progress import make_progress
    from neuronc.runtime.engine import Engine
    from neuronc.runtime.request import Request
    from neuronc.runtime.session import Session
    from neuronc.runtime.text import stop_token_ids

    progress = make_progress(quiet)
    only_decoders = {
        "--prompt-tokens": prompt_tokens,
        "--new-tokens": new_tokens,
        "--concurrency": concurrency,
        "--rate": rate,
        "--warmup-requests": warmup_requests,
    }
    if read_manifest(artifact).embeds:
        _refuse_given(only_decoders, artifact)
    workload = Workload(
        prompt_tokens=_or(prompt_tokens, _PROMPT_TOKENS),
        new_tokens=_or(new_tokens, _NEW_TOKENS),
        num_requests=_or(requests, _REQUESTS),
        concurrency=concurrency,
        rate=rate,
        warmup_requests=_or(warmup_requests, _WARMUP_REQUESTS),
        seed=seed,
    )
    opened = Session.open(
        artifact, on=on or "target", rank_processes=rank_processes, progress=progress
    )
    with closing(opened) as session:
        if session.manifest.embeds:
            return _bench_embeddings(session, artifact, _or(requests, _CALLS), seed, progress)
        result = run_benchmark(
            session,
            Engine,
            workload,
            make_request=Request,
            artifact_digest=session.manifest.digest,
            target=session.ran_on,
            forbidden_ids=stop_token_ids(artifact / WEIGHTS_DIR),
            progress=progress,
        )
        return _report(session, result, measure_device(session, progress=progress))


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _refuse_given(options: Mapping[str, object], artifact: Path) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        message = f"{artifact} embeds texts, whose programs have no {', '.join(given)}"
        raise UsageError(
            message, hint="leave them out; --requests says how many calls are measured"
        )


def _bench_embeddings(
    session: "Session", artifact: Path, num_calls: int, seed: int, progress: "Progress"
) -> Report:
    from neuronc.artifact.manifest import WEIGHTS_DIR
    from neuronc.bench.device import measure_device
    from neuronc.bench.embeddings import bench_embeddings
    from neuronc.checkpoint.folder import read_config
    from neuronc.families.model_config import read_model_config

    config = read_model_config(read_config(artifact / WEIGHTS_DIR), source=str(artifact))
    result = bench_embeddings(
        session,
        vocab_size=config.vocab_size,
        num_calls=num_calls,
        seed=seed,
        progress=progress,
    )
    return _report(session, result, measure_device(session, progress=progress))


def _report(session: "Session", result: Any, device: Any) -> Report:
    verified = bool((session.manifest.verification or {}).get("passed"))
    data = {**result.to_dict(), "verified": verified, "device": device}
    warnings = result.warnings if verified else (*result.warnings, "this artifact is unverified")

    def draw(console: Any) -> None:
        result.render(console)
        if device is not None:
            _draw_device(console, device)

    return Report(command="bench", data=data, text=draw, warnings=warnings)


def _draw_device(console: Any, times: Mapping[str, Mapping[str, float]]) -> None:
    from neuronc.cli.tables import draw_rows

    columns = ("mean_ms", "min_ms", "max_ms", "std_dev_ms")
    rows = [(name, *(f"{found[c]:.3f}" for c in columns)) for name, found in times.items()]
    draw_rows(console, ("on the device, ms", "mean", "min", "max", "std dev"), rows)
