"""``--fail-on 'tpot.p50>+5%,throughput<-5%'`` -> rules.

    RULES = RULE {"," RULE}      RULE = [MODE ":"] METRIC (">" | "<") ["+" | "-"] NUMBER "%"

A rule says what a regression is: how far B may be from A in the direction that is worse. ``>`` is
for metrics where less is better and ``<`` for those where more is; the other way round the rule
would fail on an improvement, and is refused. The number may have the other sign:
``tpot.p50>-10%`` demands that B is at least 10 % faster.
"""

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite, log1p
from typing import get_args

from neuronc.bench.compare.names import OF_SWEEP, Mode, find_metric, higher_is_better
from neuronc.errors import UsageError

DEFAULT_RULES = "tpot.p50>+5%,ttft.p50>+5%,throughput<-5%"
"""The three numbers that `neuronc bench` repeats runs for, until each is known to 2.5 %."""

_RULE = re.compile(
    r"(?:(?P<mode>[^:<>]*):)?(?P<metric>[\w.]*)(?P<sign>[<>])(?P<percent>[+-]?[0-9.]+)%"
)
_EXAMPLE = "write it like --fail-on 'tpot.p50>+5%,ttft.p99>+10%,throughput<-5%'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How much worse one metric of B may be.

    Attributes:
        text: As it was written, without blanks.
        metric: Full name, such as ``tpot_ms.p50``.
        mode: Of the runs it looks at; None until the documents say which they have.
        at: The load of a sweep whose runs it looks at; None for the sweep as a whole, or no sweep.
        percent: The limit of B / A - 1; a regression lies above it, or below it where more of
            the metric is better.
    """

    text: str
    metric: str
    mode: Mode | None
    percent: float
    at: float | None = None

    @property
    def worse(self) -> int:
        """1 where a larger value is worse, -1 where a smaller one is."""
        return -1 if higher_is_better(self.metric) else 1

    @property
    def limit(self) -> float:
        """The limit of log(B / A)."""
        return log1p(self.percent / 100)

    def in_mode(self, mode: Mode) -> "Rule":
        """The same rule about the runs of ``mode``."""
        return replace(self, mode=mode)

    def at_load(self, at: float) -> "Rule":
        """The same rule about one load of a sweep."""
        return replace(self, mode="sweep", at=at)

    @property
    def label(self) -> str:
        """As it was written, with the load it is about here."""
        return self.text if self.at is None else f"{self.text} at {self.at:g}"

    @property
    def where(self) -> str:
        """The runs it looks at, for people."""
        return where(self.mode, self.at)


def where(mode: Mode | None, at: float | None) -> str:
    """``latency``, or ``sweep at 4``."""
    return str(mode) if at is None else f"{mode} at {at:g}"


def parse_rules(text: str, *, option: str = "--fail-on") -> tuple[Rule, ...]:
    """The rules in ``text``.

    Raises:
        UsageError: One cannot be read, names something unknown, would fail on an improvement, or
            is there twice.
    """
    rules = tuple(_parse(part.strip(), option) for part in text.split(","))
    for number, rule in enumerate(rules):
        same = [r for r in rules[:number] if (r.metric, r.mode) == (rule.metric, rule.mode)]
        if same:
            message = f"{option} has two rules for {rule.metric}: {same[0].text} and {rule.text}"
            raise UsageError(message, hint="leave out the weaker one")
    return rules


def _parse(part: str, option: str) -> Rule:
    text = "".join(part.split())
    found = _RULE.fullmatch(text)
    if found is None:
        message = f"{option}: cannot read {part!r} as a rule; expected METRIC>+NUMBER%"
        raise UsageError(message, hint=_EXAMPLE)
    mode = None if found["mode"] is None else parse_mode(found["mode"], option)
    percent = _parse_percent(found["percent"], text, option)
    rule = Rule(text=text, metric=find_metric(found["metric"]), mode=mode, percent=percent)
    _check_direction(rule, found["sign"], option)
    if rule.metric in OF_SWEEP and mode not in (None, "sweep"):
        message = f"{option}: {text}: {rule.metric} is of a whole sweep, and {mode} is none"
        raise UsageError(message, hint=f"leave out {mode}:")
    return rule


def parse_mode(name: str, option: str) -> Mode:
    """The mode called ``name``; `UsageError` naming ``option`` where there is none."""
    known: tuple[Mode, ...] = get_args(Mode)
    for mode in known:
        if name == mode:
            return mode
    near = get_close_matches(name, known, n=1)
    message = f"{option}: there is no mode {name!r}" + (f"; the nearest is {near[0]}" * bool(near))
    raise UsageError(message, hint=f"use one of {', '.join(known)}")


def _parse_percent(text: str, rule: str, option: str) -> float:
    try:
        percent = float(text)
    except ValueError:
        percent = float("nan")
    if isfinite(percent) and percent > -100:
        return percent
    message = f"{option}: {rule} has the limit {text}%; expected a number above -100"
    raise UsageError(message, hint=_EXAMPLE)


def _check_direction(rule: Rule, sign: str, option: str) -> None:
    right = ">" if rule.worse > 0 else "<"
    if sign == right:
        return
    better = "less" if rule.worse > 0 else "more"
    message = (
        f"{option}: {rule.text} would fail on an improvement: {better} of {rule.metric} is better"
    )
    given = rule.text.partition(sign)[0]
    way_out = f"{given}{right}{'+' if rule.worse > 0 else '-'}{abs(rule.percent):g}%"
    raise UsageError(message, hint=f"write {way_out}")
