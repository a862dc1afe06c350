"""The numbers of one rule's metric in the runs of its mode, and whether they can be tested."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from neuronc.bench.compare.rules import Rule
from neuronc.bench.compare.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """A metric's values, one a run; None where a run left it undefined.

    Attributes:
        untestable: Why no interval can be given; empty where one can.
        failures: What failed requests of B take away from good times; empty where nothing did.
    """

    a: tuple[float | None, ...]
    b: tuple[float | None, ...]
    untestable: str = ""
    failures: str = ""

    @property
    def testable(self) -> tuple[list[float], list[float]]:
        """The values of A and of B that are defined: all of them, unless it is untestable."""
        return [v for v in self.a if v is not None], [v for v in self.b if v is not None]

    @property
    def means(self) -> tuple[float | None, float | None]:
        """Arithmetic means of what is defined, to show; the ratio is of geometric ones."""
        a, b = self.testable
        return fmean(a) if a else None, fmean(b) if b else None


def samples_of(runs_a: Sequence[Run], runs_b: Sequence[Run], rule: Rule) -> Samples:
    """What ``rule`` looks at."""
    of_a = [run for run in runs_a if (run.mode, run.at) == (rule.mode, rule.at)]
    of_b = [run for run in runs_b if (run.mode, run.at) == (rule.mode, rule.at)]
    a = tuple(run.metrics.get(rule.metric) for run in of_a)
    b = tuple(run.metrics.get(rule.metric) for run in of_b)
    why = (_untestable(name, values) for name, values in (("A", a), ("B", b)))
    return Samples(
        a=a, b=b, untestable="; ".join(filter(None, why)), failures=_failures(of_a, of_b)
    )


def _untestable(name: str, values: Sequence[float | None]) -> str:
    undefined = sum(value is None for value in values)
    if len(values) < 2:
        runs = "1 repeat" if values else "no repeat"
        return f"{name} has {runs}; how far repeats lie apart takes at least 2"
    # A run that left it undefined may be the slow one, so the others do not stand for it.
    if undefined:
        return f"undefined in {undefined} of {len(values)} repeats of {name}"
    smallest = min(value for value in values if value is not None)
    return f"{smallest:g} in {name}, and a ratio needs numbers above 0" if smallest <= 0 else ""


def _failures(runs_a: Sequence[Run], runs_b: Sequence[Run]) -> str:
    (failed_a, sent_a), (failed_b, sent_b) = (
        (sum(run.num_failed for run in runs), sum(run.num_requests for run in runs))
        for runs in (runs_a, runs_b)
    )
    if failed_b * max(sent_a, 1) <= failed_a * max(sent_b, 1):
        return ""
    return (
        f"{failed_b} of {sent_b} requests of B failed and {failed_a} of {sent_a} of A;"
        " the times of the others do not speak for them"
    )
