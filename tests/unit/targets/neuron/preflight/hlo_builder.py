"""Small HLO modules written out by hand, for rules that no model of ours breaks."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.preflight.check import Finding, check_program
from neuronc.targets.neuron.preflight.program import TYPE_NUMBERS


class Body:
    """One computation under construction; its last operator is its root."""

    def __init__(self, module: Any, ids: Iterator[int]) -> None:
        self.module, self.ids = module, ids
        number = len(module.computations)
        self.message = module.computations.add(id=number, name=f"c{number}")

    def op(self, opcode: str, shape: str, *operands: Any, calls: Any = (), **fields: Any) -> Any:
        number = next(self.ids)
        made = self.message.instructions.add(
            id=number, name=f"{opcode}.{number}", opcode=opcode, **fields
        )
        set_shape(made.shape, shape)
        made.operand_ids.extend(operand.id for operand in operands)
        made.called_computation_ids.extend(body.message.id for body in calls)
        self.message.root_id = made.id
        return made

    def parameter(self, shape: str, name: str = "") -> Any:
        number = sum(i.opcode == "parameter" for i in self.message.instructions)
        made = self.op("parameter", shape, parameter_number=number)
        if name:
            made.frontend_attributes.map["neff_input_names"] = name
        return made


class HloBuilder(Body):
    """A module; itself its entry."""

    def __init__(self) -> None:
        super().__init__(LEGACY(name="by_hand"), itertools.count(1))

    def body(self) -> Body:
        return Body(self.module, self.ids)

    def reducer(self, opcode: str, dtype: str) -> Body:
        """``opcode`` of two scalars."""
        made = self.body()
        made.op(opcode, dtype, made.parameter(dtype), made.parameter(dtype))
        return made

    def serialize(self) -> bytes:
        return bytes(self.module.SerializeToString())

    def check(self, target: str = "trn2", lnc: int = 1, **options: Any) -> tuple[Finding, ...]:
        return check_program(self.serialize(), program="p", target=target, lnc=lnc, **options)

    def codes(self, target: str = "trn2", **options: Any) -> list[str]:
        """``EVRF035`` for an error, ``evrf035`` for a warning."""
        found = self.check(target, **options)
        return [f.code if f.severity == "error" else f.code.lower() for f in found]


def set_shape(message: Any, text: str) -> None:
    """``f32[2,3]``, ``s32`` (a scalar), ``f32[<=4]`` (bounded) or ``(f32[2],u32[2])``."""
    if text.startswith("("):
        message.element_type = TYPE_NUMBERS["tuple"]
        for part in re.findall(r"\w+(?:\[[^\]]*\])?", text):
            set_shape(message.tuple_shapes.add(), part)
        return
    dtype, _, dims = text.rstrip("]").partition("[")
    message.element_type = TYPE_NUMBERS[dtype]
    for dim in filter(None, dims.split(",")):
        message.dimensions.append(int(dim.removeprefix("<=")))
        message.is_dynamic_dimension.append(dim.startswith("<="))
