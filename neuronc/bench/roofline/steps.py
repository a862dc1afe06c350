"""Utilisation of what a benchmark ran: programs by themselves, and the step classes of runs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median

from neuronc.bench import metrics
from neuronc.bench.modes.cells import Cell
from neuronc.bench.roofline.machine import Machine
from neuronc.bench.roofline.needed import Work, needed_decode, needed_prefill, padded
from neuronc.bench.roofline.program_cost import ProgramCost
from neuronc.bench.roofline.utilisation import Utilisation, utilisation
from neuronc.bench.timeline import Timeline


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What an artifact's programs have to do, and what the machine could.

    Attributes:
        costs: Of each program on one rank, by step class.
        dtype: Of the arithmetic, our name.
        ranks: Of the artifact.
    """

    costs: Mapping[str, ProgramCost]
    machine: Machine
    dtype: str
    ranks: int

    def of_cell(self, cell: Cell, ms: float) -> Utilisation:
        """Of a program that took ``ms`` by itself."""
        cost = self.costs[cell.step_class]
        if cell.phase == "prefill":
            start = cell.context - cell.tokens
            needed = needed_prefill(cost, num_tokens=cell.tokens, start=start)
        else:
            needed = needed_decode(cost, [cell.context] * cell.active_slots)
        return self._of(cost, needed, ms)

    def of_classes(self, timelines: Iterable[Timeline]) -> dict[str, Utilisation]:
        """Of each step class: the median time, and the mean of what its steps needed."""
        times: defaultdict[str, list[float]] = defaultdict(list)
        work: defaultdict[str, list[Work]] = defaultdict(list)
        for timeline in timelines:
            for name, ms, needed in self._steps(timeline):
                times[name].append(ms)
                work[name].append(needed)
        return {
            name: self._of(self.costs[name], _mean(work[name]), median(times[name]))
            for name in times
        }

    def _steps(self, timeline: Timeline) -> Iterator[tuple[str, float, Work]]:
        """Class, time and needed work of each step; what is cached is told by the steps before."""
        cached: defaultdict[str, int] = defaultdict(int)
        for step in timeline.steps:
            name, ids = metrics.step_class(step), step.request_ids
            if step.phase == "prefill":
                start = cached[ids[0]]
                needed = needed_prefill(self.costs[name], num_tokens=step.num_tokens, start=start)
                cached[ids[0]] += step.num_tokens
            else:
                for request_id in ids:
                    cached[request_id] += 1
                needed = needed_decode(self.costs[name], [cached[i] for i in ids])
            yield name, metrics.step_ms(step), needed

    def _of(self, cost: ProgramCost, needed: Work, ms: float) -> Utilisation:
        return utilisation(
            padded(cost), needed, ms=ms, machine=self.machine, dtype=self.dtype, ranks=self.ranks
        )


def _mean(work: list[Work]) -> Work:
    return Work(
        bytes=round(fmean(needed.bytes for needed in work)),
        flops=round(fmean(needed.flops for needed in work)),
    )
