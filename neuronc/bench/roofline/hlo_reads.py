"""How much of each input an HLO computation reads, and where a value comes from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neuronc.targets.neuron.hlo.dataflow import users_of

# The same elements in another order, shape or type: reading the result reads the operand.
_VIEWS = frozenset({"reshape", "bitcast", "copy", "transpose", "convert", "optimization-barrier"})
_PICKS = frozenset({"gather", "dynamic-slice"})
_WRITES = {"scatter": 2, "dynamic-update-slice": 1}  # the operand that holds what is written
_ELEMENTWISE = frozenset({"multiply", "divide", "add", "subtract"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reads:
    """Elements of one value.

    Attributes:
        whole: Read whatever the data says, at most all of them.
        picked: Read beside those, chosen by indices: rows of an embedding, experts.
        written: Replaced in place.
    """

    whole: int = 0
    picked: int = 0
    written: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The parameter a value is a view of; ``picked`` if indices chose a part of it."""

    parameter: int
    picked: bool = False


def elements(instruction: Any) -> int:
    """Elements of an array-shaped result."""
    return math.prod(instruction.shape.dimensions)


class Reading:
    """Questions about the values of ``computation``, in which calls are inlined."""

    def __init__(self, computation: Any) -> None:
        self.by_id = {i.id: i for i in computation.instructions}
        self.users = users_of(computation)
        self.root_id = computation.root_id
        self._reads: dict[int, Reads] = {}
        self._origins: dict[int, Origin | None] = {}

    def reads(self, number: int) -> Reads:
        """What is read of the value ``number``.

        A slice reads its result; a gather or dynamic slice too, and a result that several read is
        counted once. A scatter or dynamic update writes its updates and leaves the rest where it
        is. Everything else that uses a value reads all of it.
        """
        if number not in self._reads:
            found = [
                self._read_by(user, number, place)
                for user in self.users.get(number, ())
                for place, operand in enumerate(user.operand_ids)
                if operand == number
            ]
            all_of_it = elements(self.by_id[number])
            whole = min(all_of_it, sum(f.whole for f in found))
            picked = min(all_of_it - whole, sum(f.picked for f in found))
            written = sum(f.written for f in found)
            self._reads[number] = Reads(whole=whole, picked=picked, written=written)
        return self._reads[number]

    def _read_by(self, user: Any, number: int, place: int) -> Reads:
        if user.id == self.root_id and user.opcode == "tuple":
            return Reads()
        if user.opcode in _VIEWS or user.opcode == "slice":
            return self.reads(user.id)
        if user.opcode in _PICKS and place == 0:
            found = self.reads(user.id)
            return Reads(picked=found.whole + found.picked, written=found.written)
        if user.opcode in _WRITES and place == 0:
            found = self.reads(user.id)
            updates = elements(self.by_id[user.operand_ids[_WRITES[user.opcode]]])
            return Reads(whole=found.whole, picked=found.picked, written=found.written + updates)
        return Reads(whole=elements(self.by_id[number]))

    def origin(self, number: int) -> Origin | None:
        """The parameter that the value ``number`` is a view, a part or a scaled form of."""
        if number not in self._origins:
            self._origins[number] = self._find_origin(self.by_id[number])
        return self._origins[number]

    def _find_origin(self, instruction: Any) -> Origin | None:
        opcode, operands = instruction.opcode, instruction.operand_ids
        if opcode == "parameter":
            return Origin(parameter=instruction.parameter_number)
        if opcode in _VIEWS or opcode in ("slice", "broadcast") or opcode in _WRITES:
            return self.origin(operands[0])
        if opcode in _PICKS:
            source = self.origin(operands[0])
            return source and Origin(parameter=source.parameter, picked=True)
        if opcode in _ELEMENTWISE:  # a quantised weight times its scale
            sources = [self.origin(o) for o in operands if not self._is_constant(o)]
            return sources[0] if sources and all(sources) else None
        return None

    def _is_constant(self, number: int) -> bool:
        instruction = self.by_id[number]
        if instruction.opcode in ("broadcast", *_VIEWS):
            return self._is_constant(instruction.operand_ids[0])
        return bool(instruction.opcode == "constant")

    def parameters(self) -> Iterator[Any]:
        """The inputs, in no order."""
        return (i for i in self.by_id.values() if i.opcode == "parameter")
