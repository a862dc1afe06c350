"""Which families are verified, at which tp degrees, by which test (``verified.toml``)."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from neuronc.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A test that every verified family goes through.

    Attributes:
        how: What it compares with transformers.
        test: Its file in the repository.
        tp: The tp degrees it runs at.
    """

    how: str
    test: str
    tp: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """What is verified.

    Attributes:
        checks: By name.
        variants: Family to the models of it that are checked.
    """

    checks: Mapping[str, Check]
    variants: Mapping[str, tuple[str, ...]]


@cache
def verified() -> Verified:
    """The contents of ``verified.toml``."""
    text = files("neuronc.families").joinpath("verified.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    variants = {name: tuple(found) for name, found in data.pop("variants").items()}
    checks = {
        name: Check(how=check["how"], test=check["test"], tp=tuple(check["tp"]))
        for name, check in data.items()
    }
    return Verified(checks=checks, variants=variants)


def find_verified(name: str) -> tuple[str, ...]:
    """The verified variants of family ``name``.

    Raises:
        UsageError: there are none; the nearest verified families are named.
    """
    known = verified().variants
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        message = f"no test covers a family {name!r}"
        hint = f"nearest: {', '.join(near)}" if near else "neuronc models lists what is covered"
        raise UsageError(message, hint=hint)
    return known[name]
