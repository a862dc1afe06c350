"""How many tokens requests have: ``64``, ``uniform:16,128``, ``lognormal:200,150,4,1024``, ``mix:..``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neuronc.errors import UsageError

FORMS = "N, uniform:LOW,HIGH or lognormal:MEAN,SD,LOW,HIGH"
MIX_FORM = "mix:PROMPT,NEW@WEIGHT;PROMPT,NEW@WEIGHT"


class Lengths(Protocol):
    """A distribution of token counts."""

    @property
    def longest(self) -> int:
        """No draw is above it."""

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:
        """``count`` token counts, each at least 1."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    tokens: int

    @property
    def longest(self) -> int:
        """The length itself."""
        return self.tokens

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:  # noqa: ARG002
        """The length, ``count`` times; nothing is drawn."""
        return [self.tokens] * count

    def __str__(self) -> str:
        return f"fixed:{self.tokens}"


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every integer from ``low`` to ``high``, both included, equally often."""

    low: int
    high: int

    @property
    def longest(self) -> int:
        """The upper end."""
        return self.high

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:
        """Independent draws."""
        return [int(n) for n in rng.integers(self.low, self.high, count, endpoint=True)]

    def __str__(self) -> str:
        return f"uniform:{self.low},{self.high}"


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormal with this mean and standard deviation (of the length, not of its logarithm).

    Rounded, then moved into ``low`` to ``high``: the mean of what is drawn is near ``mean`` only
    where little is beyond them.
    """

    mean: float
    sd: float
    low: int
    high: int

    @property
    def longest(self) -> int:
        """The upper end."""
        return self.high

    def draw(self, rng: np.random.Generator, count: int) -> list[int]:
        """Independent draws."""
        variance = math.log1p((self.sd / self.mean) ** 2)
        drawn = rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)
        return [int(n) for n in np.clip(np.rint(drawn), self.low, self.high)]

    def __str__(self) -> str:
        return f"lognormal:{self.mean:g},{self.sd:g},{self.low},{self.high}"


@dataclass(frozen=True, slots=True)
class Mix:
    """Pairs of prompt and new tokens, each as often as its weight says."""

    pairs: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]

    def draw(self, rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
        """``count`` pairs of prompt and new tokens."""
        shares = np.array(self.weights) / sum(self.weights)
        return [self.pairs[i] for i in rng.choice(len(self.pairs), size=count, p=shares)]

    def __str__(self) -> str:
        parts = zip(self.pairs, self.weights, strict=True)
        return "mix:" + ";".join(f"{p},{n}@{weight:g}" for (p, n), weight in parts)


def parse_lengths(text: str, option: str) -> Lengths:
    """The distribution that ``text``, the value of ``option``, describes.

    Raises:
        UsageError: no such form, or numbers out of their range.
    """
    kind, _, rest = text.strip().rpartition(":")
    numbers = _numbers(rest.split(","), text, option)
    made: Lengths
    match kind, numbers:
        case (("" | "fixed"), [tokens]):
            made = Fixed(_whole(tokens, text, option))
        case "uniform", [low, high]:
            made = Uniform(_whole(low, text, option), _whole(high, text, option))
            _require(made.low <= made.high, text, option, "LOW is above HIGH")
        case "lognormal", [mean, sd, low, high]:
            made = Lognormal(mean, sd, _whole(low, text, option), _whole(high, text, option))
            _require(made.low <= made.high, text, option, "LOW is above HIGH")
            _require(mean > 0 and sd > 0, text, option, "MEAN and SD must be above 0")
        case _:
            raise _unknown(text, option, FORMS)
    return made


def parse_mix(text: str, option: str) -> Mix:
    """The pairs that ``mix:256,128@60;512,512@40`` describes; a weight may be left out.

    Raises:
        UsageError: another form, or numbers out of their range.
    """
    kind, _, rest = text.strip().partition(":")
    if kind != "mix":
        raise _unknown(text, option, MIX_FORM)
    pairs, weights = [], []
    for part in rest.split(";"):
        lengths, _, weight = part.partition("@")
        found = _numbers([*lengths.split(","), weight or "1"], text, option)
        if len(found) != 3:
            raise _unknown(text, option, MIX_FORM)
        _require(found[2] > 0, text, option, "a weight must be above 0")
        pairs.append((_whole(found[0], text, option), _whole(found[1], text, option)))
        weights.append(found[2])
    return Mix(tuple(pairs), tuple(weights))


def _numbers(parts: Sequence[str], text: str, option: str) -> list[float]:
    try:
        found = [float(part) for part in parts]
    except ValueError:
        found = [math.nan]
    if not all(math.isfinite(number) for number in found):
        raise _unknown(text, option, f"{FORMS}, or {MIX_FORM}")
    return found


def _whole(number: float, text: str, option: str) -> int:
    _require(number >= 1 and number == int(number), text, option, "lengths are integers from 1")
    return int(number)


def _require(holds: bool, text: str, option: str, why: str) -> None:
    if not holds:
        message = f"{option} is {text!r}: {why}"
        raise UsageError(message, hint=f"expected {FORMS}")


def _unknown(text: str, option: str, forms: str) -> UsageError:
    message = f"{option} is {text!r}; expected {forms}"
    return UsageError(message, hint="see neuronc bench --help")
