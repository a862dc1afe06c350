"""The flags of `neuronc bench`, and what they come to."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.bench.settings import Mode, Settings
    from neuronc.bench.workload.conversations import Conversations
    from neuronc.bench.workload.lengths import Mix
    from neuronc.bench.workload.workload import Trace, Workload

_DEFAULT_PROMPT_TOKENS, _DEFAULT_NEW_TOKENS = 128, 32
"""Halved, and less, where the artifact's max length is short; verification records such answers."""

PrefillPolicyName = Literal["first", "alternate", "drain"]
NoiseName = Literal["warn", "fail", "off"]

ModeOption = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE,...",
        help="steps, latency, throughput, serve or sweep (default: the first three; serve with"
        " --rate, --concurrency or --arrival).",
    ),
]
PromptTokensOption = Annotated[
    str | None,
    typer.Option(
        "--prompt-tokens",
        metavar="LENGTHS",
        help="N, uniform:LOW,HIGH or lognormal:MEAN,SD,LOW,HIGH (default: 128 if it fits).",
    ),
]
NewTokensOption = Annotated[
    str | None,
    typer.Option("--new-tokens", metavar="LENGTHS", help="Likewise (default: 32 if it fits)."),
]
LengthsOption = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        metavar="PAIRS",
        help="Both together: mix:PROMPT,NEW@WEIGHT;..., @FILE.jsonl or conversations.",
    ),
]
RequestsOption = Annotated[
    int | None,
    typer.Option(
        "--requests",
        metavar="N",
        min=1,
        help="In each run (default: what the time allows; an encoder's calls: 20).",
    ),
]
ConcurrencyOption = Annotated[
    str | None,
    typer.Option(
        "--concurrency",
        metavar="N,...",
        help="Closed loop: requests in flight (default of serve: the batch size).",
    ),
]
RateOption = Annotated[
    str | None, typer.Option("--rate", metavar="R,...", help="Open loop: requests per second.")
]
ArrivalOption = Annotated[
    str | None,
    typer.Option(
        "--arrival",
        metavar="PROCESS",
        help="poisson (default), gamma:BURSTINESS, constant, or trace: the workload's own times.",
    ),
]
SloOption = Annotated[
    str | None,
    typer.Option(
        "--slo", metavar="NAME=TIME,...", help="ttft, tpot, itl, e2e: ttft=500ms,tpot=50ms."
    ),
]
AttainmentOption = Annotated[
    float | None,
    typer.Option(
        "--attainment", metavar="SHARE", help="Of requests that must meet it (default 0.99)."
    ),
]
RepeatsOption = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        min=1,
        help="Of each run (default: 3 to 10, until intervals are within 2.5 %).",
    ),
]
TimeBudgetOption = Annotated[
    float,
    typer.Option(
        "--time-budget",
        metavar="S",
        help="Seconds for all of it; arrivals or a whole trace that take longer are refused.",
    ),
]
PairTimeBudgetOption = Annotated[
    float | None,
    typer.Option("--time-budget", metavar="S", help="Seconds for both together (default: 60)."),
]
RunLimitOption = Annotated[
    float | None,
    typer.Option("--run-limit", metavar="S", help="What a run has not done by then has failed."),
]
PrefillPolicyOption = Annotated[
    PrefillPolicyName,
    typer.Option(
        "--prefill-policy",
        help="A waiting prompt goes first, alternates with decode steps, or waits until none run.",
    ),
]
StopAtEosFlag = Annotated[
    bool, typer.Option("--stop-at-eos", help="End-of-sequence ends an answer (default: ignored).")
]
NoiseOption = Annotated[
    NoiseName, typer.Option("--noise", help="On a noisy machine: say so, exit 14, or do not look.")
]

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The JSON document, for neuronc compare."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="One page with plots, for people.")
]
MarkdownOption = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="A table for a pull request.")
]
CsvOption = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Every estimate.")]
PerfettoOption = Annotated[
    Path | None,
    typer.Option("--perfetto", metavar="FILE", help="The slots over time, for ui.perfetto.dev."),
]
SaveRequestsOption = Annotated[
    Path | None,
    typer.Option("--save-requests", metavar="FILE", help="A JSON line for each request."),
]
SaveStepsOption = Annotated[
    Path | None,
    typer.Option("--save-steps", metavar="FILE", help="A JSON line for each program call."),
]
SaveWorkloadOption = Annotated[
    Path | None,
    typer.Option("--save-workload", metavar="FILE", help="The requests, for --lengths @FILE."),
]


def parse_modes(text: str | None, *, has_load: bool) -> "tuple[Mode, ...]":
    """The modes that ``--mode`` names; what the other flags mean where it is left out.

    Raises:
        UsageError: no such mode, or one given twice.
    """
    from neuronc.bench.settings import DEFAULT_MODES, MODES

    if text is None:
        return ("serve",) if has_load else DEFAULT_MODES
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names) or not set(names) <= set(MODES):
        message = f"--mode is {text!r}; expected some of {', '.join(MODES)}, each once"
        raise UsageError(message, hint="for example --mode steps,latency")
    return tuple(mode for mode in MODES if mode in names)


def parse_numbers(text: str | None, option: str) -> tuple[float, ...]:
    """``1,2,4`` as numbers, ascending.

    Raises:
        UsageError: something else, or one that is not above 0.
    """
    if text is None:
        return ()
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        found = (0.0,)
    if not all(0 < number < float("inf") for number in found):
        message = f"{option} is {text!r}; expected numbers above 0 with commas between"
        raise UsageError(message, hint=f"for example {option} 1,2,4")
    return found


def parse_counts(text: str | None, option: str) -> tuple[int, ...]:
    """The same for whole numbers."""
    found = parse_numbers(text, option)
    if any(number != int(number) for number in found):
        message = f"{option} is {text!r}; expected whole numbers"
        raise UsageError(message, hint=f"for example {option} 1,2,4")
    return tuple(int(number) for number in found)


def parse_workload(
    prompt_tokens: str | None,
    new_tokens: str | None,
    lengths: str | None,
    *,
    seed: int,
    stop_at_eos: bool,
    max_length: int,
) -> "Workload":
    """The requests' lengths; defaults are cut to what an artifact of ``max_length`` holds.

    Raises:
        UsageError: a form that is not known, or lengths given twice.
        InputError: a trace file that is damaged.
    """
    from neuronc.bench.workload.lengths import Fixed, parse_lengths
    from neuronc.bench.workload.workload import Workload

    if lengths is not None:
        if prompt_tokens is not None or new_tokens is not None:
            message = "--lengths gives prompt and new tokens together"
            raise UsageError(message, hint="leave out --prompt-tokens and --new-tokens")
        return Workload(joint=_parse_joint(lengths), seed=seed, ignore_eos=not stop_at_eos)
    answers = None if new_tokens is None else parse_lengths(new_tokens, "--new-tokens")
    room = (
        max_length // 2 if answers is None else min(max_length // 2, max_length - answers.longest)
    )
    prompt = prompt_tokens or str(min(_DEFAULT_PROMPT_TOKENS, max(1, room)))
    prompts = parse_lengths(prompt, "--prompt-tokens")
    left = max(1, max_length - prompts.longest)
    return Workload(
        prompt_tokens=prompts,
        new_tokens=answers or Fixed(min(_DEFAULT_NEW_TOKENS, left)),
        seed=seed,
        ignore_eos=not stop_at_eos,
    )


def _parse_joint(text: str) -> "Conversations | Mix | Trace":
    from neuronc.bench.workload.conversations import Conversations
    from neuronc.bench.workload.lengths import parse_mix
    from neuronc.bench.workload.trace_file import read_trace
    from neuronc.bench.workload.workload import Trace

    if text.startswith("@"):
        path = Path(text[1:])
        return Trace(name=path.name, shapes=read_trace(path))
    return Conversations() if text == "conversations" else parse_mix(text, "--lengths")


def make_settings(
    *, arrival: str | None, slo: str | None, attainment: float | None, **rest: Any
) -> "Settings":
    """The settings of a benchmark; ``rest`` goes to `Settings` as it is.

    Raises:
        UsageError: flags that contradict each other, or values out of their range.
    """
    from neuronc.bench.settings import Settings
    from neuronc.bench.slo import DEFAULT_ATTAINMENT, parse_slo
    from neuronc.bench.workload.arrivals import POISSON, parse_arrival

    if attainment is not None and slo is None:
        message = "--attainment is the share of requests that meet --slo, which is missing"
        raise UsageError(message, hint="for example --slo ttft=500ms,tpot=50ms")
    wanted = DEFAULT_ATTAINMENT if attainment is None else attainment
    if arrival is not None:
        _require_arrivals(arrival, **{name: rest.get(name, ()) for name in _DECIDE_ARRIVALS})
    process = POISSON if arrival is None else parse_arrival(arrival) if arrival != "trace" else None
    return Settings(
        arrival=process,
        slo=None if slo is None else parse_slo(slo, wanted),
        **rest,
    )


_DECIDE_ARRIVALS = ("modes", "rates", "concurrencies")


def _require_arrivals(
    arrival: str,
    *,
    modes: "Sequence[Mode]",
    rates: Sequence[float],
    concurrencies: Sequence[int],
) -> None:
    """Refuse an arrival process that no run would follow.

    Raises:
        UsageError: the other flags fix when requests are sent, or say no rate.
    """
    if not {"serve", "sweep"} & set(modes):
        message = f"--arrival is {arrival}, and --mode {','.join(modes)} has no arrivals"
        raise UsageError(message, hint="leave out --arrival, or use --mode serve")
    if concurrencies:
        message = f"--arrival is {arrival}, and --concurrency sends when another request ends"
        raise UsageError(message, hint="give one of the two; --arrival goes with --rate")
    if rates or (arrival == "trace" and "sweep" not in modes):
        return
    needs = "a sweep needs several rates" if arrival == "trace" else "it needs a rate"
    message = f"--arrival is {arrival}, and {needs}"
    raise UsageError(message, hint="add --rate, in requests per second: --rate 2, or --rate 1,2,4")
