"""The result of a run, for programs and for people; every sample is kept."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from neuronc.bench import metrics
from neuronc.bench.engine_protocol import Phase
from neuronc.bench.environment import Environment
from neuronc.bench.summary import Summary, summarize
from neuronc.bench.timeline import RequestRecord, Timeline
from neuronc.bench.workload import Workload

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NEURON_TARGETS = ("inf2", "trn1", "trn1n", "trn2", "trn3")


def headline(target: str) -> str:
    """What was measured, in words that leave no doubt whether a Neuron device took part."""
    if target == "cpu":
        return "CPU target (XLA:CPU, not a Neuron device)"
    if target in NEURON_TARGETS:
        return f"{target} target (Neuron device)"
    return f"{target} target (not known to be a Neuron device)"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchReport:
    """A timeline with all that is needed to judge it.

    Attributes:
        workload: The settings as they ran, defaults filled in.
        environment: Read before the run.
        artifact_digest: Of the artifact measured.
        warnings: Doubts about the numbers, each with what to try; not part of `to_dict`.
    """

    timeline: Timeline
    workload: Workload
    target: str
    artifact_digest: str
    load_s: float
    peak_rss_bytes: int
    environment: Environment
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The JSON form: plain types only; an undefined metric is None."""
        return {
            "requests": [_request_dict(request) for request in self.timeline.requests],
            "metrics": {name: _dict(summary) for name, summary in self.latencies().items()},
            **self.rates(),
            "decode_step_ms": self._step_dict("decode"),
            "prefill_step_ms": self._step_dict("prefill"),
            "host_gap_ms": _dict(summarize(metrics.host_gap_ms(self.timeline))),
            "load_s": self.load_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "environment": dict(self.environment),
            "artifact_digest": self.artifact_digest,
            "target": self.target,
            "workload": asdict(self.workload),
            "definitions": dict(metrics.DEFINITIONS),
        }

    def latencies(self) -> dict[str, Summary | None]:
        """Summaries over requests, and for itl over all gaps of all requests; ms."""
        requests = self.timeline.requests
        per_request = {
            "ttft_ms": map(metrics.ttft_ms, requests),
            "tpot_ms": map(metrics.tpot_ms, requests),
            "e2e_ms": map(metrics.e2e_ms, requests),
        }
        itl_ms = [gap for request in requests for gap in metrics.itl_ms(request)]
        return {
            name: summarize([value for value in values if value is not None])
            for name, values in per_request.items()
        } | {"itl_ms": summarize(itl_ms)}

    def rates(self) -> dict[str, float | None]:
        """Throughputs over the whole run, per second."""
        return {
            "output_tokens_per_s": metrics.output_tokens_per_s(self.timeline),
            "input_tokens_per_s": metrics.input_tokens_per_s(self.timeline),
            "total_tokens_per_s": metrics.total_tokens_per_s(self.timeline),
            "requests_per_s": metrics.requests_per_s(self.timeline),
        }

    def step_summaries(self, phase: Phase) -> dict[int, Summary]:
        """Step times of one phase by bucket, ms; only buckets that ran."""
        groups = metrics.step_ms_by_bucket(self.timeline, phase)
        return {bucket: made for bucket, ms in groups.items() if (made := summarize(ms))}

    def _step_dict(self, phase: Phase) -> dict[str, object] | None:
        """All steps of a phase as one summary, and under ``by_bucket`` one for each bucket."""
        step_ms = metrics.decode_step_ms if phase == "decode" else metrics.prefill_step_ms
        overall = summarize(step_ms(self.timeline))
        if overall is None:
            return None
        buckets = self.step_summaries(phase).items()
        return overall.to_dict() | {"by_bucket": {str(b): made.to_dict() for b, made in buckets}}

    def render(self, console: "Console") -> None:
        """Print the tables for people."""
        console.print(_latency_table(self))
        console.print(_throughput_table(self))


def _dict(summary: Summary | None) -> dict[str, float | int] | None:
    return summary.to_dict() if summary else None


def _request_dict(request: RequestRecord) -> dict[str, object]:
    return {
        "prompt_tokens": request.prompt_tokens,
        "new_tokens": len(request.token_times_ns),
        "ttft_ms": metrics.ttft_ms(request),
        "tpot_ms": metrics.tpot_ms(request),
        "e2e_ms": metrics.e2e_ms(request),
        "itl_ms": list(metrics.itl_ms(request)),
    }


def _latency_rows(report: BenchReport) -> Iterator[tuple[str, Summary | None]]:
    latencies = report.latencies()
    yield "first token (TTFT)", latencies["ttft_ms"]
    yield "per token (TPOT)", latencies["tpot_ms"]
    yield "token gap (ITL)", latencies["itl_ms"]
    yield "end to end", latencies["e2e_ms"]
    phases: tuple[Phase, ...] = ("prefill", "decode")
    for phase in phases:
        for bucket, summary in report.step_summaries(phase).items():
            yield f"{phase} step, {bucket}", summary
    yield "host gap", summarize(metrics.host_gap_ms(report.timeline))


def _latency_table(report: BenchReport) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = ("mean", "p50", "p90", "p95", "p99", "max")
    table = Table(title=headline(report.target), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("ms", no_wrap=True)
    for column in (*columns, "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, summary in _latency_rows(report):
        numbers: Mapping[str, float] = summary.to_dict() if summary else {}
        cells = [_short(numbers[column]) if numbers else "-" for column in columns]
        table.add_row(name, *cells, f"{numbers.get('n', 0):d}")
    return table


def _short(number: float) -> str:
    """At least three digits, in at most six characters up to 999999."""
    return f"{number:.{2 if number < 100 else 1 if number < 1000 else 0}f}"


def _throughput_table(report: BenchReport) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table

    workload = report.workload
    arrivals = (
        f"{workload.concurrency} at a time"
        if workload.rate is None
        else f"{workload.rate:g} a second (Poisson)"
    )
    table = Table(
        title=headline(report.target), title_justify="left", box=SIMPLE, show_header=False
    )
    table.add_row(
        "workload",
        f"{workload.num_requests} requests, {workload.prompt_tokens} prompt + "
        f"{workload.new_tokens} new tokens, {arrivals}, seed {workload.seed}",
    )
    for name, rate in report.rates().items():
        label = name.removesuffix("_per_s").replace("_", " ") + " per second"
        table.add_row(label, "-" if rate is None else f"{rate:.2f}")
    table.add_row("load time", f"{report.load_s:.2f} s")
    table.add_row("peak memory (RSS)", f"{report.peak_rss_bytes / 1e9:.2f} GB")
    table.add_row("CPU of the host", str(report.environment.get("cpu_model") or "unknown"))
    table.add_row("threads", str(report.environment.get("threads_visible") or "unknown"))
    table.add_row("artifact", report.artifact_digest)
    return table
