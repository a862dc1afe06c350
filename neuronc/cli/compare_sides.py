"""The two sides of neuronc compare: files that were measured before, or artifacts measured now."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from neuronc.cli.bench_options import make_settings, parse_workload
from neuronc.errors import UsageError

if TYPE_CHECKING:
    from neuronc.bench.compare.documents import BenchDocument
    from neuronc.bench.settings import Mode, Settings
    from neuronc.progress import Progress
    from neuronc.recipe import Place


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What was said of measuring two artifacts, flag by flag; None of what was left open."""

    prompt_tokens: str | None
    new_tokens: str | None
    lengths: str | None
    requests: int | None
    repeats: int | None
    time_budget: float | None
    on: "Place | None"

    def settings(self, mode: "Mode | None", *, max_length: int) -> "Settings":
        """Settings for both sides; latency and throughput if no ``mode`` is asked for.

        Raises:
            UsageError: flags that contradict each other, or values out of their range.
            InputError: a trace file that is damaged.
        """
        workload = parse_workload(
            self.prompt_tokens,
            self.new_tokens,
            self.lengths,
            seed=0,
            stop_at_eos=False,
            max_length=max_length,
        )
        budget = {} if self.time_budget is None else {"time_budget_s": self.time_budget}
        return make_settings(
            arrival=None,
            slo=None,
            attainment=None,
            modes=("latency", "throughput") if mode is None else (mode,),
            workload=workload,
            num_requests=self.requests,
            repeats=self.repeats,
            **budget,
        )

    def given(self) -> list[str]:
        """The flags that were."""
        names = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return [f"--{name.replace('_', '-')}" for name in names]


def read_or_measure(
    a: Path, b: Path, asked: Measuring, *, mode: "Mode | None", progress: "Progress"
) -> "tuple[BenchDocument, BenchDocument]":
    """What is known of both sides.

    Raises:
        UsageError: a file and an artifact, or two files and flags about measuring.
        InputError: a file that is no benchmark of ours.
        PlanError: a request does not fit one of the artifacts.
        BenchmarkError: an engine failed or gave other tokens than asked for.
    """
    from neuronc.bench.compare.documents import document_from, read_document

    if not a.is_dir() and not b.is_dir():
        if given := asked.given():
            message = f"{', '.join(given)} are about measuring, and files are measured already"
            raise UsageError(message, hint="leave them out, or give two artifacts")
        return read_document(a), read_document(b)
    if not (a.is_dir() and b.is_dir()):
        folder, file = (a, b) if a.is_dir() else (b, a)
        message = f"{folder} is an artifact and {file} a file"
        raise UsageError(message, hint="give two artifacts, to be measured in turn, or two files")
    from neuronc.artifact.manifest import read_manifest
    from neuronc.bench.compare.measured import measure_pair

    max_length = min(read_manifest(folder).max_length for folder in (a, b))
    settings = asked.settings(mode, max_length=max_length)
    found = measure_pair(a, b, settings, on=asked.on or "target", progress=progress)
    return document_from(a, found[0]), document_from(b, found[1])
