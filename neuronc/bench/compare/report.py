"""A comparison in plain types for programs, and in one line each for people."""

from dataclasses import asdict

from neuronc.bench.compare.attribute import Attribution
from neuronc.bench.compare.gate import ALPHA, Comparison, Verdict
from neuronc.bench.compare.power import detectable_ratio, power_table
from neuronc.bench.compare.repeats import CAP

SCHEMA = "neuronc.compare/1"


def to_dict(comparison: Comparison) -> dict[str, object]:
    """The JSON form; what is undefined is None."""
    verdicts = comparison.verdicts
    return {
        "verdict": comparison.outcome,
        "more_repeats": more_needed(comparison),
        "rules": [_verdict_dict(verdict) for verdict in verdicts],
        "attribution": [_attribution_dict(found) for found in comparison.attributions],
        "method": {
            "test": "Welch's t on the logarithms of whole runs, two one-sided bounds",
            "family_alpha": ALPHA,
            "correction": "Holm over all rules, of the bound that can fail",
        },
        "power": [asdict(entry) for entry in power_table(len(verdicts))],
    }


def more_needed(comparison: Comparison) -> int | None:
    """The further runs of each that the most demanding rule needs; None if none, or no number."""
    undecided = [verdict.more for verdict in comparison.verdicts if verdict.more is not None]
    likely = [more.likely for more in undecided if more.likely is not None]
    return max(likely) if likely and len(likely) == len(undecided) else None


def _verdict_dict(verdict: Verdict) -> dict[str, object]:
    found, rule = verdict.difference, verdict.rule
    mean_a, mean_b = verdict.samples.means
    return {
        "rule": rule.text,
        "metric": rule.metric,
        "mode": rule.mode,
        "at": rule.at,
        "limit_percent": rule.percent,
        "verdict": verdict.outcome,
        "reason": verdict.reason or None,
        "a": {"mean": mean_a, "values": list(verdict.samples.a)},
        "b": {"mean": mean_b, "values": list(verdict.samples.b)},
        "ratio": verdict.ratio,
        "low": verdict.low,
        "high": verdict.high,
        "p": verdict.chance,
        "p_holm": verdict.chance_holm,
        "level": verdict.level,
        "df": None if found is None else found.df,
        "log_sd": None if found is None else [found.variance_a**0.5, found.variance_b**0.5],
        "detectable_ratio": detectable_ratio(verdict),
        "more_repeats": None if verdict.more is None else asdict(verdict.more),
    }


def _attribution_dict(found: Attribution) -> dict[str, object]:
    return {
        "mode": found.mode,
        "at": found.at,
        "change_ms_per_request": found.change_ms,
        "queue_ms": found.queue_ms,
        "text": found.text,
        "contributions": [
            {
                "name": one.name,
                "ms_per_request": one.total_ms,
                "slower_ms": one.slower_ms,
                "more_steps_ms": one.more_steps_ms,
                "share": one.share,
                "step_ratio": one.ratio,
            }
            for one in found.contributions
        ],
    }


def describe(verdict: Verdict) -> str:
    """One line: outcome, the numbers, the reason, and what would help."""
    mean_a, mean_b = verdict.samples.means
    numbers = f"{verdict.rule.metric} {number(mean_a)} -> {number(mean_b)}"
    parts = [f"{verdict.outcome}: {numbers} ({change(verdict)})", verdict.reason]
    if verdict.more is not None:
        parts.append(f"needs {verdict.more.text}")
    return "; ".join(filter(None, parts))


def number(value: float | None) -> str:
    """Four digits; a dash for what is undefined."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def change(verdict: Verdict) -> str:
    """The ratio as a percentage with its interval."""
    if verdict.ratio is None or verdict.low is None or verdict.high is None:
        return "not testable"
    ratio, low, high = (100 * (value - 1) for value in (verdict.ratio, verdict.low, verdict.high))
    return f"{ratio:+.1f} % [{low:+.1f}, {high:+.1f}]"


def chance(value: float | None) -> str:
    """A p value."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def conclusion(comparison: Comparison) -> str:
    """The whole in one sentence."""
    outcomes = [verdict.outcome for verdict in comparison.verdicts]
    total = f"{len(outcomes)} rule{'s' * (len(outcomes) > 1)}"
    if comparison.outcome == "PASS":
        return f"B is within all limits ({total})"
    if comparison.outcome == "FAIL":
        return f"B is past the limit of {outcomes.count('FAIL')} of {total}"
    undecided, needed = (
        any(v.more is not None for v in comparison.verdicts),
        more_needed(comparison),
    )
    more = f"about {needed} more repeats" if needed else f"more than {CAP} more repeats"
    needs = f": needs {more} of each" if undecided else ""
    return f"{outcomes.count('INCONCLUSIVE')} of {total} cannot be decided{needs}"
