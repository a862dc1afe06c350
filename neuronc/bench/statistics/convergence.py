"""Whether another repeat is worth its time.

Deciding by the interval itself ends some runs too early by luck, so the intervals of a run that
stopped as converged miss the truth a little more often than 5 % (``test_convergence`` counts it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuronc.bench.statistics.estimate import Estimate, estimate

METRICS = ("output_tokens_per_s", "tpot_ms.p50", "ttft_ms.p50")
TARGET = 0.025  # relative half-width
MIN_REPEATS = 3
MAX_REPEATS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What to do after a repeat.

    Attributes:
        go_on: Run another repeat.
        converged: Every metric that is defined is known well enough.
        why: One sentence without a full stop: ``why_stopped``, or why to go on.
        left_out: Metrics that no repeat defines; they had no say.
    """

    go_on: bool
    converged: bool
    why: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """When to stop.

    Attributes:
        target: Relative half-width of the 95 % interval that is good enough.
        min_repeats: Before any decision that it converged.
        max_repeats: Of the run.
        budget_s: Seconds that all repeats may take together; None for no limit.
        metrics: What has to be known well.
    """

    target: float = TARGET
    min_repeats: int = MIN_REPEATS
    max_repeats: int = MAX_REPEATS
    budget_s: float | None = None
    metrics: tuple[str, ...] = METRICS

    def decide(
        self, repeats: Sequence[Mapping[str, float | None]], *, elapsed_s: float, next_s: float
    ) -> Decision:
        """Decide after ``repeats``, each the metrics of one run by name.

        Args:
            repeats: Metrics of each finished run.
            elapsed_s: Seconds of the budget that are spent.
            next_s: Seconds that another repeat is expected to take.
        """
        estimates = {name: estimate([run.get(name) for run in repeats]) for name in self.metrics}
        left_out = tuple(name for name, made in estimates.items() if made.n == 0)
        wide = self._wide(estimates)
        done = len(repeats) >= self.min_repeats and len(left_out) < len(estimates) and not wide
        why = self._why(len(repeats), done, wide, elapsed_s, next_s)
        go_on = not done and why is None
        words = why or f"{_listed(wide) or 'too few repeats'} after {_repeats(len(repeats))}"
        if left_out and repeats:
            words += f"; {', '.join(left_out)} is undefined and had no say"
        return Decision(go_on=go_on, converged=done, why=words, left_out=left_out)

    def _wide(self, estimates: Mapping[str, Estimate]) -> dict[str, float | None]:
        """Metrics not known well enough, and their relative half-widths."""
        widths = {
            name: 0.0
            if made.low is not None and made.low == made.high
            else made.relative_half_width
            for name, made in estimates.items()
            if made.n
        }
        return {name: w for name, w in widths.items() if w is None or w > self.target}

    def _why(
        self,
        num: int,
        done: bool,
        wide: Mapping[str, float | None],
        elapsed_s: float,
        next_s: float,
    ) -> str | None:
        """Why to stop; None to go on."""
        if done:
            return f"every interval is within {self.target:.1%} after {_repeats(num)}"
        still = f" with {_listed(wide)}" if wide else ""
        if num >= self.max_repeats:
            return f"the most repeats allowed, {num}, were run{still}"
        if self.budget_s is not None and elapsed_s + next_s > self.budget_s:
            return (
                f"another repeat of about {next_s:.1f} s would exceed the {max(0, self.budget_s):.1f} s"
                f" that the time budget left for all repeats, after {_repeats(num)}{still}"
            )
        return None


def _listed(wide: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'without an interval' if width is None else f'within {width:.1%}'}"
        for name, width in wide.items()
    )


def _repeats(number: int) -> str:
    return f"{number} repeat{'' if number == 1 else 's'}"
