"""neuronc bench: latency and throughput of an artifact."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronc.cli import bench_options as flags
from neuronc.cli.options import (
    JsonFlag,
    OnOption,
    QuietFlag,
    RankProcessesFlag,
    RequireSignatureOption,
)
from neuronc.cli.output import Report
from neuronc.errors import BenchmarkError, NeuroncError, NoisyMachineError, UsageError

if TYPE_CHECKING:
    from neuronc.bench.outputs.save import Files
    from neuronc.bench.settings import Settings
    from neuronc.progress import Progress
    from neuronc.runtime.session import Session

EXAMPLES = (
    "neuronc bench artifact --html bench.html",
    "neuronc bench artifact --rate 2,4,8 --mode sweep --slo ttft=500ms,tpot=50ms --json",
)
_CALLS = 20
"""Of each of an encoder's programs, where --requests does not say."""


def bench(
    artifact: Annotated[Path, typer.Argument(help="Folder made by compile or build.")],
    *,
    mode: flags.ModeOption = None,
    prompt_tokens: flags.PromptTokensOption = None,
    new_tokens: flags.NewTokensOption = None,
    lengths: flags.LengthsOption = None,
    requests: flags.RequestsOption = None,
    concurrency: flags.ConcurrencyOption = None,
    rate: flags.RateOption = None,
    arrival: flags.ArrivalOption = None,
    slo: flags.SloOption = None,
    attainment: flags.AttainmentOption = None,
    repeats: flags.RepeatsOption = None,
    time_budget: flags.TimeBudgetOption = 60.0,
    run_limit: flags.RunLimitOption = None,
    prefill_policy: flags.PrefillPolicyOption = "first",
    stop_at_eos: flags.StopAtEosFlag = False,
    noise: flags.NoiseOption = "warn",
    seed: Annotated[int, typer.Option("--seed", metavar="N")] = 0,
    output: flags.OutputOption = None,
    html: flags.HtmlOption = None,
    markdown: flags.MarkdownOption = None,
    csv: flags.CsvOption = None,
    perfetto: flags.PerfettoOption = None,
    save_requests: flags.SaveRequestsOption = None,
    save_steps: flags.SaveStepsOption = None,
    save_workload: flags.SaveWorkloadOption = None,
    on: OnOption = None,
    require_signature: RequireSignatureOption = None,
    rank_processes: RankProcessesFlag = False,
    quiet: QuietFlag = False,
    _json: JsonFlag = False,
) -> Report:
    """Measure latency and throughput of an artifact, and say how sure the numbers are.

    An encoder's: every bucket with one text and with a full batch, --requests calls of each.
    """
    from neuronc.artifact.manifest import read_manifest
    from neuronc.bench.outputs.save import Files
    from neuronc.cli.progress import make_progress
    from neuronc.provenance.signing import require_signatures
    from neuronc.runtime.session import Session

    manifest, progress = read_manifest(artifact), make_progress(quiet)
    require_signatures((artifact,), require_signature, progress=progress)
    paths = {
        "output": output,
        "html": html,
        "markdown": markdown,
        "csv": csv,
        "perfetto": perfetto,
        "save_requests": save_requests,
        "save_steps": save_steps,
        "save_workload": save_workload,
    }
    given = {
        "--mode": mode,
        "--prompt-tokens": prompt_tokens,
        "--new-tokens": new_tokens,
        "--lengths": lengths,
        "--concurrency": concurrency,
        "--rate": rate,
        "--arrival": arrival,
        "--slo": slo,
        "--attainment": attainment,
        "--repeats": repeats,
        "--run-limit": run_limit,
    }
    if manifest.embeds:
        written = {f"--{name.replace('_', '-')}": path for name, path in paths.items()}
        _refuse_given({**given, **written}, artifact)
    else:
        files = Files(**paths)
        files.check()
        has_load = any((concurrency, rate, arrival))
        settings = flags.make_settings(
            modes=flags.parse_modes(mode, has_load=has_load),
            workload=flags.parse_workload(
                prompt_tokens,
                new_tokens,
                lengths,
                seed=seed,
                stop_at_eos=stop_at_eos,
                max_length=manifest.max_length,
            ),
            num_requests=requests,
            rates=flags.parse_numbers(rate, "--rate"),
            concurrencies=flags.parse_counts(concurrency, "--concurrency"),
            arrival=arrival,
            slo=slo,
            attainment=attainment,
            repeats=repeats,
            time_budget_s=time_budget,
            run_limit_s=run_limit,
            prefill_policy=prefill_policy,
            noise=noise,
        )
    opened = Session.open(
        artifact, on=on or "target", rank_processes=rank_processes, progress=progress
    )
    with closing(opened) as session:
        if manifest.embeds:
            return _bench_embeddings(session, artifact, requests or _CALLS, seed, progress)
        return _bench_decoder(session, artifact, settings, files, progress)


def _refuse_given(options: Mapping[str, object], artifact: Path) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        message = f"{artifact} embeds texts, whose programs have no {', '.join(given)}"
        raise UsageError(
            message, hint="leave them out; --requests says how many calls are measured"
        )


def _bench_decoder(
    session: "Session", artifact: Path, settings: "Settings", files: "Files", progress: "Progress"
) -> Report:
    from neuronc.bench.bench_artifact import bench_artifact
    from neuronc.bench.outputs.save import save
    from neuronc.bench.terminal import render

    document, measured = bench_artifact(artifact, session, settings, progress=progress)
    unsaved = save(files, document, measured)
    return Report(
        command="bench",
        data=document,
        text=lambda console: render(document, console),
        warnings=tuple(document["caveats"]),
        error=_failure(document, settings.noise) or unsaved,
    )


def _failure(document: Mapping[str, Any], noise: str) -> NeuroncError | None:
    """What makes the command fail although it measured."""
    if document["status"] == "invalid":
        problems = document["validation"]["problems"]
        message = f"{len(problems)} tokens of timed runs were wrong; the first: {problems[0]}"
        return BenchmarkError(message, hint="run `neuronc verify` on the artifact")
    if document["status"] == "noisy" and noise == "fail":
        message = f"the machine was noisy: {'; '.join(document['noise']['findings'])}"
        return NoisyMachineError(message, hint="run again when it is idle, or with --noise warn")
    return None


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
    device = measure_device(session, progress=progress)
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
