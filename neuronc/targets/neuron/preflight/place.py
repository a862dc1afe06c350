"""Where in the model an operator came from: the module of the nearest weight."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from functools import cached_property

from neuronc.targets.neuron.preflight.program import Operator, Program

_FARTHEST = 2000
"""Operators that are looked at before the search ends without a place."""


class PlaceFinder:
    """Finds the model module of operators of one program; users are listed at the first need."""

    def __init__(self, program: Program, weight_names: Iterable[str]) -> None:
        self._program = program
        self._weight_names = frozenset(weight_names)

    def module_of(self, operator: Operator) -> str:
        """``model.layers.3.mlp.down_proj``; empty if no weight is near.

        The weight is looked for among what the operator computes from, then among what is computed
        from it. An operator of a called computation counts as its caller.
        """
        start = self._in_entry(operator)
        if start is None:
            return ""
        found = self._nearest(start, lambda one: one.operands)
        found = found or self._nearest(start, lambda one: self._users[id(one)])
        return found.rpartition(".")[0] or found

    def _nearest(self, start: Operator, next_to: Callable[[Operator], Iterable[Operator]]) -> str:
        """Name of the first weight, breadth first."""
        seen, waiting = {id(start)}, deque([start])
        while waiting and len(seen) < _FARTHEST:
            current = waiting.popleft()
            name = self._weight_of(current)
            if name:
                return name
            for neighbour in next_to(current):
                if id(neighbour) not in seen:
                    seen.add(id(neighbour))
                    waiting.append(neighbour)
        return ""

    def _weight_of(self, operator: Operator) -> str:
        if operator.opcode != "parameter":
            return ""
        name: str = operator.message.frontend_attributes.map.get("neff_input_names", "")
        return name if name in self._weight_names else ""

    def _in_entry(self, operator: Operator) -> Operator | None:
        """``operator``, or the operator of the entry that leads to its computation."""
        entry, callers = self._program.entry.root.computation, self._callers
        current: Operator | None = operator
        for _ in range(len(self._program.computations) + 1):
            if current is None or current.computation == entry:
                return current
            current = callers.get(current.computation)
        return None

    @cached_property
    def _users(self) -> defaultdict[int, list[Operator]]:
        """Users of each operator, and their parameters: weights that it meets further down."""
        users: defaultdict[int, list[Operator]] = defaultdict(list)
        for operator in self._program.entry.operators:
            for operand in operator.operands:
                users[id(operand)].append(operator)
                if operand.opcode == "parameter":
                    users[id(operator)].append(operand)
        return users

    @cached_property
    def _callers(self) -> dict[int, Operator]:
        return {
            number: operator
            for computation in self._program.computations.values()
            for operator in computation.operators
            for number in operator.message.called_computation_ids
        }
