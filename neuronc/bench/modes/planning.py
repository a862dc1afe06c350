"""Which runs to make, and how many requests each of them fits into the time there is."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from neuronc.bench.engine_protocol import SessionLike
from neuronc.bench.modes.cells import Warmth
from neuronc.bench.modes.runs import RunMode
from neuronc.bench.modes.time_needed import Needed, name_of
from neuronc.bench.reference import KnownSequence
from neuronc.bench.settings import MAX_REQUESTS, Mode, Settings
from neuronc.bench.workload.load import Load
from neuronc.bench.workload.requests import make_requests
from neuronc.bench.workload.shapes import RequestShape
from neuronc.bench.workload.workload import Trace

MIN_REPEATS = 3
MOST_ALONE = 100
"""Requests of a run that makes one at a time: three runs have the 299 samples that p99 needs."""
MOST_PER_SLOT = 32
"""Requests of any other run, for each slot."""

Shapes = Sequence[RequestShape]


@dataclass(frozen=True, kw_only=True)
class Planner:
    """What planning has to know.

    Attributes:
        allowed: Ids that prompts may hold.
        known: Prompts whose successors are on record; the first requests take theirs from them.
        budget_s: For all runs and their repeats together.
    """

    session: SessionLike
    settings: Settings
    warmth: Warmth
    allowed: np.ndarray
    known: Sequence[KnownSequence]
    budget_s: float

    def modes(self) -> list[RunMode]:
        """Every run that the settings ask for, one for each point of a sweep.

        Raises:
            PlanError: a request does not fit the artifact.
        """
        loads = self._all_loads()
        return [self._mode(mode, load, self.budget_s / len(loads)) for mode, load in loads]

    def needed(self) -> list[Needed]:
        """What one run of each takes at least.

        Raises:
            PlanError: a request does not fit the artifact.
        """
        loads = self._all_loads()
        return [self._needed(mode, load, self.budget_s / len(loads)) for mode, load in loads]

    def _all_loads(self) -> list[tuple[Mode, Load]]:
        modes = (mode for mode in self.settings.modes if mode != "steps")
        return [(mode, load) for mode in modes for load in self._loads(mode)]

    def _needed(self, mode: Mode, load: Load, budget_s: float) -> Needed:
        shapes = self._shapes(load, budget_s)
        arrivals_s = [at or 0.0 for at in load.times_s(shapes, self.settings.workload.seed)]
        runs_s = list(self._runs_s(shapes, replace(load, rate=None)))
        ends_s = list(map(max, arrivals_s, runs_s))
        limit_s = self.settings.run_limit_s or math.inf
        share_s = budget_s / (self.settings.repeats or 1)
        return Needed(
            name=name_of(mode, load),
            num_requests=len(shapes),
            arriving_s=min(max(arrivals_s), limit_s),
            running_s=min(runs_s[-1], limit_s),
            whole_trace=self._is_whole_trace(),
            fitting=bisect_right(ends_s, share_s),
        )

    def _is_whole_trace(self) -> bool:
        settings = self.settings
        return settings.num_requests is None and isinstance(settings.workload.joint, Trace)

    def _loads(self, mode: Mode) -> list[Load]:
        settings, slots = self.settings, self.session.batch_size
        if mode == "latency":
            return [Load(concurrency=1)]
        if mode == "throughput":
            return [Load()]
        if settings.rates:
            return [Load(rate=rate, arrival=settings.arrival) for rate in sorted(settings.rates)]
        if settings.arrival is None:
            return [Load(arrival=None)]
        several = sorted({1, max(1, slots // 2), slots, 2 * slots, 4 * slots})
        default = several if mode == "sweep" else [slots]
        return [Load(concurrency=n) for n in sorted(settings.concurrencies or default)]

    def _mode(self, mode: Mode, load: Load, budget_s: float) -> RunMode:
        shapes = self._shapes(load, budget_s)
        known = [sequence.prompt for sequence in self.known]
        return RunMode(
            mode=mode,
            load=load,
            requests=make_requests(self.settings.workload, load, shapes, self.allowed, known=known),
            limit_s=self.settings.run_limit_s,
        )

    def _shapes(self, load: Load, budget_s: float) -> Shapes:
        workload, asked = self.settings.workload, self.settings.num_requests
        longest = self.session.max_length
        if asked is not None:
            return workload.shapes(asked, max_length=longest)
        if isinstance(workload.joint, Trace):  # whole, or refused: see `needed`
            return workload.shapes(len(workload.joint.shapes), max_length=longest)
        least, most = self._range(load)
        shapes = workload.shapes(most, max_length=longest)
        affordable = [
            count
            for count, run_s in enumerate(self._runs_s(shapes, load), start=1)
            if count >= least and run_s * MIN_REPEATS <= budget_s
        ]
        return shapes[: max(affordable, default=least)]

    def _range(self, load: Load) -> tuple[int, int]:
        """The fewest and the most requests that a run is worth making with."""
        slots = self.session.batch_size
        if load.concurrency == 1:
            return 2, MOST_ALONE
        in_flight = load.concurrency or slots
        most = max(MOST_ALONE, MOST_PER_SLOT * max(slots, in_flight))
        return max(2, in_flight), min(most, MAX_REQUESTS)

    def _runs_s(self, shapes: Shapes, load: Load) -> Iterator[float]:
        """Seconds of a run of the first, the first two ... ``shapes``.

        As far as the programs' times and the arrivals say it.
        """
        shared = min(load.concurrency or self.session.batch_size, self.session.batch_size)
        prefill_s = accumulate(map(self._prefill_s, shapes))
        decode_s = accumulate(map(self._decode_s, shapes))
        for count, (prefill, decode) in enumerate(zip(prefill_s, decode_s, strict=True), start=1):
            arriving_s = 0.0 if load.rate is None else count / load.rate
            yield max(prefill + decode / min(shared, count), arriving_s)

    def _prefill_s(self, shape: RequestShape) -> float:
        session, done, spent_ms = self.session, 0, 0.0
        while done < shape.prompt_tokens:
            start, done = session.next_chunk(done, shape.prompt_tokens)
            spent_ms += self.warmth.step_ms("prefill", session.prefill_bucket(done - start))
        return spent_ms / 1000

    def _decode_s(self, shape: RequestShape) -> float:
        """Of a request that has the steps to itself."""
        last = shape.prompt_tokens + shape.new_tokens - 1
        return (self._decoded_ms[last] - self._decoded_ms[shape.prompt_tokens]) / 1000

    @cached_property
    def _decoded_ms(self) -> list[float]:
        """Time of all decode steps at positions before each."""
        buckets = map(self.session.decode_bucket, range(self.session.max_length))
        times_ms = (self.warmth.step_ms("decode", bucket) for bucket in buckets)
        return [0.0, *accumulate(times_ms)]
