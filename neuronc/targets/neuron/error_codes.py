"""Catalogue of neuronx-cc's error codes: what each means, and which setting of ours avoids it.

The entries are in ``error_codes.toml`` beside this file. A code is written without the prefix
``NCC_`` here; the compiler prints it with.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from neuronc.errors import InputError

Decided = Literal["pre-flight", "lower bound", "compiler only"]

_PREFIX = "NCC_"
# Seen: `[ERROR] [NCC_EVRF029]`, `[INTERNAL_ERROR] [TEN404]` of older compilers, `[NCC_EOOM001]`.
_IN_LOG = re.compile(r"(?:\[(?:INTERNAL_ERROR|ERROR)\]\s*\[(?:NCC_)?|\[NCC_)([A-Z]{3,5}[0-9]{3})\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorCode:
    """One error of neuronx-cc.

    Attributes:
        code: Without ``NCC_``.
        documented: Whether AWS has a page about it.
        confidence: ``documented``, or where else it is known from.
        condition: What the compiler objects to.
        cause: Why.
        trigger: What leads to it in language models.
        remedy: Which neuronc setting to change.
        decided: Who finds it: our pre-flight, our pre-flight up to a lower bound (more may fail),
            or only the compiler.
        source: Page in the AWS Neuron SDK's documentation; empty without one.
    """

    code: str
    documented: bool
    confidence: str
    condition: str
    cause: str
    trigger: str
    remedy: str
    decided: Decided
    source: str

    @property
    def full_code(self) -> str:
        """As the compiler prints it: ``NCC_EVRF007``."""
        return f"{_PREFIX}{self.code}"


@cache
def error_codes() -> dict[str, ErrorCode]:
    """Every known code, the documented ones first."""
    text = files("neuronc.targets.neuron").joinpath("error_codes.toml").read_text(encoding="utf-8")
    return {
        code: ErrorCode(
            code=code,
            documented="source" in entry,
            **{"confidence": "documented", "source": "", **entry},
        )
        for code, entry in tomllib.loads(text).items()
    }


def find_code(text: str) -> ErrorCode:
    """The entry of ``EVRF007``, ``NCC_EVRF007``, ``ncc_evrf007``, or of a log line with a code.

    Raises:
        InputError: nothing is known about it; the nearest codes are named.
    """
    code = next(iter(codes_in(text)), text.strip().upper().removeprefix(_PREFIX))
    known = error_codes()
    if code not in known:
        near = difflib.get_close_matches(code, known, n=3, cutoff=0.6)
        message = f"{text!r} is no error code of neuronx-cc that is known here"
        hint = f"nearest: {', '.join(near)}" if near else "neuronc explain lists all codes"
        raise InputError(message, hint=hint)
    return known[code]


def codes_in(log_text: str) -> tuple[str, ...]:
    """Codes in a compiler's log, in order of appearance, each once, whether in the catalogue or not.

    The first letter is E for the user's errors and I for the compiler's own.
    """
    return tuple(dict.fromkeys(_IN_LOG.findall(log_text)))
