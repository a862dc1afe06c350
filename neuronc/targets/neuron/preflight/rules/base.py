"""What a rule is, and what it is told besides the operator."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuronc.targets.neuron.preflight.flags import CompilerFlags
from neuronc.targets.neuron.preflight.program import Operator, Program

Severity = Literal["error", "warning"]

GENERATIONS = {"inf2": 2, "trn1": 2, "trn1n": 2, "trn2": 3, "trn3": 4}
"""Neuron core version of each target."""

TRN1, TRN2, TRN3 = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an operator; a warning is what the compiler may yet accept."""

    text: str
    severity: Severity = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """The program and what it is compiled for.

    Attributes:
        generation: Neuron core version of ``target``.
        weight_names: Input names of weights, for the split of device memory.
        compile_dir: Where the compiler runs, if that is known: it looks for kernels below.
    """

    program: Program
    target: str
    generation: int
    lnc: int
    flags: CompilerFlags
    weight_names: frozenset[str] = frozenset()
    compile_dir: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Looks at one operator.

    Attributes:
        codes: Catalogue entries that it decides; the first is the one that is reported.
        check: What is wrong with the operator, or None.
        opcodes: Only these are looked at; empty for all.
    """

    codes: tuple[str, ...]
    check: Callable[[Operator, Context], Problem | None]
    opcodes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramRule:
    """Looks at the program as a whole."""

    codes: tuple[str, ...]
    check: Callable[[Context], Problem | None]
