"""Which families are verified, at which tp degrees, by which test (``verified.toml``)."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from neuronc.errors import UsageError

Task = Literal["generate", "embed"]


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
        checks: By task and name.
        variants: Family of decoders to the models of it that are checked.
        encoders: The same of encoders.
    """

    checks: Mapping[Task, Mapping[str, Check]]
    variants: Mapping[str, tuple[str, ...]]
    encoders: Mapping[str, tuple[str, ...]]

    def families(self) -> dict[str, tuple[Task, tuple[str, ...]]]:
        """Every family with its task and its models; decoders first."""
        families: dict[str, tuple[Task, tuple[str, ...]]] = {}
        families |= {name: ("generate", found) for name, found in self.variants.items()}
        return families | {name: ("embed", found) for name, found in self.encoders.items()}


@cache
def verified() -> Verified:
    """The contents of ``verified.toml``."""
    text = files("neuronc.families").joinpath("verified.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    lists = [
        {name: tuple(found) for name, found in data[part].items()}
        for part in ("variants", "encoders")
    ]
    checks = {
        task: {
            name: Check(how=check["how"], test=check["test"], tp=tuple(check["tp"]))
            for name, check in data[task].items()
        }
        for task in get_args(Task)
    }
    return Verified(checks=checks, variants=lists[0], encoders=lists[1])


def find_verified(name: str) -> tuple[Task, tuple[str, ...]]:
    """The task and the verified variants of family ``name``.

    Raises:
        UsageError: there are none; the nearest verified families are named.
    """
    known = verified().families()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        message = f"no test covers a family {name!r}"
        hint = f"nearest: {', '.join(near)}" if near else "neuronc models lists what is covered"
        raise UsageError(message, hint=hint)
    return known[name]
