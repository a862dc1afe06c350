"""What became of a tiny clone of every causal LM that transformers has (``sweep.toml``)."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

OK = "ok"
"""A clone whose ranks compute what transformers does, and whose programs lower."""


@cache
def swept() -> Mapping[str, Mapping[str, str]]:
    """Model type to the answer at each tp degree (``tp1``): `OK`, or what is in the way."""
    text = files("neuronc.families").joinpath("sweep.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = tomllib.loads(text)
    return found


def count_ok() -> dict[str, int]:
    """How many entries are `OK`, by tp degree."""
    counts: Counter[str] = Counter()
    for answers in swept().values():
        counts.update(tp for tp, answer in answers.items() if answer == OK)
    return dict(sorted(counts.items()))
