"""What neuronx-cc would refuse, found in a program before the compiler starts.

A check takes well under a second; the compiler may work for many minutes before it says the same.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuronc.errors import CompilerError, PlanError
from neuronc.targets.neuron.error_codes import find_code
from neuronc.targets.neuron.preflight.flags import read_flags
from neuronc.targets.neuron.preflight.place import PlaceFinder
from neuronc.targets.neuron.preflight.program import Operator, read_program
from neuronc.targets.neuron.preflight.rules.base import (
    GENERATIONS,
    Context,
    Problem,
    Rule,
    Severity,
)
from neuronc.targets.neuron.preflight.rules.registry import (
    OPERATOR_RULES,
    PROGRAM_RULES,
    SHAPE_RULES,
    by_opcode,
)

_ABOUT_SIZE = frozenset({"EARG001", "EOOM001", "EOOM002", "EVRF009", "EXSP001"})
_LISTED = 5

_SHAPES = by_opcode(SHAPE_RULES)
_OPERATORS = by_opcode(OPERATOR_RULES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that the compiler would refuse, or may.

    Attributes:
        code: Catalogue entry, without ``NCC_``.
        severity: A warning does not stop the compile.
        program: Name of the program.
        operator: ``dot.4 (dot)``; empty if it is about the whole program.
        place: Module of the model it came from; empty if that cannot be told.
        message: What is wrong.
        remedy: Which setting to change.
        count: Operators of the program with the same message; ``operator`` is the first.
    """

    code: str
    severity: Severity
    program: str
    operator: str
    place: str
    message: str
    remedy: str
    count: int = 1

    def __str__(self) -> str:
        where = f": {self.operator}" if self.operator else ""
        where += f" in {self.place}" if self.place else ""
        more = f" (and {self.count - 1} more like it)" if self.count > 1 else ""
        return f"NCC_{self.code} {self.program}{where}: {self.message}{more}"


def check_program(
    hlo: bytes,
    *,
    program: str,
    target: str,
    lnc: int,
    compiler_args: Sequence[str] = (),
    weight_names: Collection[str] = (),
    compile_dir: Path | None = None,
) -> tuple[Finding, ...]:
    """Everything in ``hlo`` that neuronx-cc would refuse for ``target``, errors first.

    A program whose shapes contradict each other is judged by its shapes alone.

    Args:
        hlo: Serialized ``xla.HloModuleProto``, as `legalise` returns it.
        program: Its name, for messages.
        target: A key of `NEURON_TARGETS`.
        lnc: Logical core size; one that the target does not have is a finding.
        compiler_args: Arguments that neuronx-cc will get.
        weight_names: Inputs that are weights.
        compile_dir: Where the compiler will run, if that is known.

    Raises:
        CompilerError: ``hlo`` is not a whole module.
    """
    context = Context(
        program=read_program(hlo, program),
        target=target,
        generation=GENERATIONS[target],
        lnc=lnc,
        flags=read_flags(compiler_args),
        weight_names=frozenset(weight_names),
        compile_dir=compile_dir,
    )
    return _findings(context, program)


def require_clean(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The warnings among ``findings``.

    Raises:
        PlanError: all errors are about memory or the logical core size.
        CompilerError: some are about the program.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return tuple(findings)
    lines = [f"  {finding}" for finding in errors[:_LISTED]]
    if len(errors) > _LISTED:
        lines.append(f"  and {len(errors) - _LISTED} more")
    message = "\n".join(["neuronx-cc would refuse this:", *lines])
    hint = f"{errors[0].remedy} (more: neuronc explain {errors[0].code})"
    about_size = all(finding.code in _ABOUT_SIZE for finding in errors)
    raise (PlanError if about_size else CompilerError)(message, hint=hint)


def _findings(context: Context, name: str) -> tuple[Finding, ...]:
    found: dict[tuple[str, str], Finding] = {}
    places = PlaceFinder(context.program, context.weight_names)
    for operator, code, problem in _problems(context):
        key = (code, problem.text)
        if key in found:
            found[key] = replace(found[key], count=found[key].count + 1)
            continue
        found[key] = Finding(
            code=code,
            severity=problem.severity,
            program=name,
            operator="" if operator is None else str(operator),
            place="" if operator is None else places.module_of(operator),
            message=problem.text,
            remedy=find_code(code).remedy,
        )
    return tuple(sorted(found.values(), key=lambda finding: finding.severity != "error"))


def _problems(context: Context) -> Iterator[tuple[Operator | None, str, Problem]]:
    for rule in PROGRAM_RULES:
        problem = rule.check(context)
        if problem is not None:
            yield None, rule.codes[0], problem
    malformed = list(_of_operators(context, *_SHAPES))
    yield from malformed or _of_operators(context, *_OPERATORS)


def _of_operators(
    context: Context, of_opcode: Mapping[str, tuple[Rule, ...]], of_all: tuple[Rule, ...]
) -> Iterator[tuple[Operator, str, Problem]]:
    for computation in context.program.computations.values():
        for operator in computation.operators:
            for rule in (*of_opcode.get(operator.opcode, ()), *of_all):
                problem = rule.check(operator, context)
                if problem is not None:
                    yield operator, rule.codes[0], problem
