"""What a benchmark is asked to do."""

from dataclasses import dataclass, field
from math import isinf
from typing import Literal, get_args

from neuronc.bench.engine_protocol import PrefillPolicy
from neuronc.bench.slo import Slo
from neuronc.bench.workload.arrivals import POISSON, Arrival
from neuronc.bench.workload.workload import Workload
from neuronc.errors import UsageError

Mode = Literal["steps", "latency", "throughput", "serve", "sweep"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEFAULT_MODES: tuple[Mode, ...] = ("steps", "latency", "throughput")
NoisePolicy = Literal["warn", "fail", "off"]
MAX_REQUESTS = 100_000
"""Of a run: their prompts are all made before it, and take some KB each."""
_FLAGS = {
    "num_requests": "--requests",
    "repeats": "--repeats",
    "time_budget_s": "--time-budget",
    "run_limit_s": "--run-limit",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of `neuronc.bench.run.run_benchmark`.

    Attributes:
        modes: What to measure.
        workload: The requests.
        num_requests: Of each run; None for as many as the time allows.
        rates: Of open loops: one for ``serve``, several for ``sweep``; empty for a closed loop.
        concurrencies: Of closed loops, likewise; empty for the artifact's batch size.
        arrival: Of an open loop; None for the workload's own times.
        slo: Objectives to judge requests by.
        repeats: Of each run; None for as many as the numbers need.
        time_budget_s: For everything after the artifact is open.
        run_limit_s: Requests that are not done by then, in one run, have failed.
        prefill_policy: The engine's.
        noise: What to do on a noisy machine: say so, fail, or not look.

    Raises:
        UsageError: settings that contradict each other, or out of their range.
    """

    modes: tuple[Mode, ...] = DEFAULT_MODES
    workload: Workload = field(default_factory=Workload)
    num_requests: int | None = None
    rates: tuple[float, ...] = ()
    concurrencies: tuple[int, ...] = ()
    arrival: Arrival | None = POISSON
    slo: Slo | None = None
    repeats: int | None = None
    time_budget_s: float = 60.0
    run_limit_s: float | None = None
    prefill_policy: PrefillPolicy = "first"
    noise: NoisePolicy = "warn"

    def __post_init__(self) -> None:
        if self.rates and self.concurrencies:
            message = "--rate and --concurrency contradict each other"
            raise UsageError(message, hint="a rate fixes the arrivals; give only one of the two")
        several = max(len(self.rates), len(self.concurrencies)) > 1
        if several and "sweep" not in self.modes:
            message = "several rates or concurrencies are a sweep"
            raise UsageError(message, hint="add --mode sweep, or give one")
        loads = self.rates or self.concurrencies
        if loads and not {"serve", "sweep"} & set(self.modes):
            message = f"--mode {','.join(self.modes)} fixes how many requests are in flight"
            raise UsageError(message, hint="leave out --rate and --concurrency, or --mode serve")
        if any(not 0 < load < float("inf") for load in loads):
            message = f"rates and concurrencies must be above 0; found {min(loads)}"
            raise UsageError(message, hint="a rate is in requests per second")
        for name, flag in _FLAGS.items():
            value = getattr(self, name)
            if value is not None and not value > 0:
                message = f"{flag} is {value}; it must be above 0"
                raise UsageError(message, hint="see neuronc bench --help")
        if self.run_limit_s is not None and isinf(self.run_limit_s):
            message = f"--run-limit is {self.run_limit_s}; expected a number of seconds"
            raise UsageError(message, hint="leave it out for no limit")
        for flag, most in (
            ("--requests", self.num_requests or 0),
            ("--concurrency", max(self.concurrencies, default=0)),
        ):
            if most > MAX_REQUESTS:
                message = f"{flag} is {most}; a run has at most {MAX_REQUESTS} requests"
                raise UsageError(message, hint="use fewer, and --repeats for more runs")
