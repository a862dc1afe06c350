"""Which rule decides which error code.

A rule of the shapes comes first: the others take operators that are put together as XLA wants them.
"""

from collections import defaultdict
from collections.abc import Mapping

from neuronc.targets.neuron.preflight.rules import (
    custom_calls,
    dtypes,
    indices,
    integers,
    memory,
    operators,
    quantize_mx,
    scaled_dot,
    settings,
    shapes,
    windows,
)
from neuronc.targets.neuron.preflight.rules.base import ProgramRule, Rule

SHAPE_RULES: tuple[Rule, ...] = shapes.RULES

OPERATOR_RULES: tuple[Rule, ...] = (
    *dtypes.RULES,
    *operators.RULES,
    *custom_calls.RULES,
    *integers.RULES,
    *indices.RULES,
    *windows.RULES,
    *quantize_mx.RULES,
    *scaled_dot.RULES,
)

PROGRAM_RULES: tuple[ProgramRule, ...] = (
    *settings.RULES,
    *memory.RULES,
    *shapes.PROGRAM_RULES,
)

DECIDED_CODES = frozenset(
    [code for rule in (*SHAPE_RULES, *OPERATOR_RULES) for code in rule.codes]
    + [code for rule in PROGRAM_RULES for code in rule.codes]
)


def by_opcode(rules: tuple[Rule, ...]) -> tuple[Mapping[str, tuple[Rule, ...]], tuple[Rule, ...]]:
    """Rules of each opcode, and those of every opcode."""
    table: defaultdict[str, tuple[Rule, ...]] = defaultdict(tuple)
    for rule in rules:
        for opcode in rule.opcodes:
            table[opcode] += (rule,)
    return table, tuple(rule for rule in rules if not rule.opcodes)
