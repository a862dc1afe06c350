"""Runs of A, runs of B and rules -> PASS, FAIL or INCONCLUSIVE.

For each rule the ratio B / A of the geometric means of whole runs has an interval of two one-sided
5 % bounds (`welch`). FAIL: all of it is past the limit. PASS: all of it is inside. Otherwise the
runs cannot tell, and the verdict says how many more might.

- Any false FAIL has a chance of at most 5 % over all rules together: the bound that can fail is
  widened by Holm's correction. The bound that can pass is not: the whole passes only if each rule
  does, so a regression of any one of them slips through with a chance of at most 5 % as it is.
- Of how much load a sweep bears, which is one of few loads, the larger of two chances counts: the
  second is that of an exact test (`exchange`). It needs three repeats of each at least.
- What cannot be tested (one run, an undefined value, requests that failed) never passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Literal

from neuronc.bench.compare.attribute import Attribution, attribute
from neuronc.bench.compare.exchange import chance_of_labels
from neuronc.bench.compare.holm import holm_adjusted, holm_levels
from neuronc.bench.compare.names import OF_SWEEP, Mode
from neuronc.bench.compare.repeats import MoreRepeats, more_repeats
from neuronc.bench.compare.rules import Rule
from neuronc.bench.compare.runs import Run
from neuronc.bench.compare.samples import Samples, samples_of
from neuronc.bench.compare.welch import Difference, chance_beyond, compare_logs, margin

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one rule came to.

    Attributes:
        reason: Why it is not PASS, or nothing.
        ratio: B / A; with ``low`` and ``high`` None where it could not be tested.
        low: Lower end of the interval that decided; see the module for its levels.
        chance: p of a ratio so far past the limit, were the true one on it; not corrected.
        chance_holm: The same after Holm's correction: FAIL iff at most `ALPHA`.
        level: What Holm's correction made of `ALPHA` for this rule.
    """

    rule: Rule
    samples: Samples
    outcome: Outcome
    reason: str = ""
    difference: Difference | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    chance_holm: float | None = None
    level: float
    more: MoreRepeats | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The verdicts in the order of the rules, and where the time of failed ones went."""

    verdicts: tuple[Verdict, ...]
    attributions: tuple[Attribution, ...]

    @property
    def outcome(self) -> Outcome:
        """FAIL over INCONCLUSIVE over PASS."""
        found = {verdict.outcome for verdict in self.verdicts}
        ranking: tuple[Outcome, ...] = ("FAIL", "INCONCLUSIVE")
        return next((outcome for outcome in ranking if outcome in found), "PASS")


def compare(runs_a: Sequence[Run], runs_b: Sequence[Run], rules: Sequence[Rule]) -> Comparison:
    """Judge B by A; each rule looks at the runs of its mode.

    Raises:
        ValueError: There are no rules, or one without a mode.
    """
    if not rules or any(rule.mode is None for rule in rules):
        message = "expected rules, each with a mode"
        raise ValueError(message)
    samples = [samples_of(runs_a, runs_b, rule) for rule in rules]
    tested = [None if s.untestable else compare_logs(*s.testable) for s in samples]
    chances = [_chance(*three) for three in zip(tested, rules, samples, strict=True)]
    levels, adjusted = holm_levels(chances, ALPHA), holm_adjusted(chances)
    verdicts = tuple(map(_verdict, rules, samples, tested, chances, adjusted, levels))
    failed = [(v.rule.mode, v.rule.at) for v in verdicts if v.outcome == "FAIL"]
    return Comparison(
        verdicts=verdicts, attributions=_attributions(runs_a, runs_b, dict.fromkeys(failed))
    )


def _chance(difference: Difference | None, rule: Rule, samples: Samples) -> float:
    # What cannot be tested counts as a rule all the same: which ones can is not known beforehand.
    if difference is None:
        return 1.0
    found = chance_beyond(difference.towards(rule.worse), rule.worse * rule.limit)
    if rule.metric in OF_SWEEP:
        found = max(found, chance_of_labels(*samples.testable, worse=rule.worse))
    return found


def _verdict(
    rule: Rule,
    samples: Samples,
    difference: Difference | None,
    chance: float,
    adjusted: float,
    level: float,
) -> Verdict:
    if difference is None:
        why = samples.untestable
        return Verdict(rule=rule, samples=samples, outcome="INCONCLUSIVE", reason=why, level=level)
    outcome = _decide(difference, rule, failed=chance <= level)
    spoilt = outcome == "PASS" and bool(samples.failures)
    low, high = _interval(difference, rule, level)
    return Verdict(
        rule=rule,
        samples=samples,
        outcome="INCONCLUSIVE" if spoilt else outcome,
        reason=samples.failures if spoilt else _reason(outcome, rule, chance),
        difference=difference,
        ratio=exp(difference.mean),
        low=low,
        high=high,
        chance=chance,
        chance_holm=adjusted,
        level=level,
        more=_more(difference, rule, level) if outcome == "INCONCLUSIVE" else None,
    )


def _decide(difference: Difference, rule: Rule, *, failed: bool) -> Outcome:
    if failed:
        return "FAIL"
    largest = difference.towards(rule.worse).mean + margin(difference, ALPHA)
    return "PASS" if largest <= rule.worse * rule.limit else "INCONCLUSIVE"


def _interval(difference: Difference, rule: Rule, level: float) -> tuple[float, float]:
    """The ratio's interval; the end on the better side is the one that can fail."""
    better = difference.mean - rule.worse * margin(difference, level)
    worse = difference.mean + rule.worse * margin(difference, ALPHA)
    return exp(min(better, worse)), exp(max(better, worse))


def _more(difference: Difference, rule: Rule, level: float) -> MoreRepeats:
    return more_repeats(
        difference.towards(rule.worse),
        rule.worse * rule.limit,
        level_of_fail=level,
        level_of_pass=ALPHA,
    )


def _reason(outcome: Outcome, rule: Rule, chance: float) -> str:
    if outcome == "FAIL":
        return f"the whole interval is past the limit of {rule.percent:+g} %"
    if outcome == "PASS":
        return ""
    holm = "; past it if this were the only rule (Holm's correction)" if chance <= ALPHA else ""
    return f"the interval holds the limit of {rule.percent:+g} %{holm}"


def _attributions(
    runs_a: Sequence[Run],
    runs_b: Sequence[Run],
    places: dict[tuple[Mode | None, float | None], None],
) -> tuple[Attribution, ...]:
    of_mode = (
        attribute(
            [run for run in runs_a if (run.mode, run.at) == place],
            [run for run in runs_b if (run.mode, run.at) == place],
        )
        for place in places
    )
    return tuple(found for found in of_mode if found is not None)
