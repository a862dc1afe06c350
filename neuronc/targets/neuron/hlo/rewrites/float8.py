"""8-bit float weights in the type that a target has.

f8e4m3fn ends at 448, f8e4m3 at 240; below, the same bits are the same value (see
`neuronc.parallel.quantize`). Trainium and Trainium2 refuse the first, NCC_EVRF051.
"""

from typing import Any

from neuronc.errors import CompilerError
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.hlo.walk import shapes_of

F8E4M3FN, F8E4M3 = 20, 28  # xla.PrimitiveType
_MOVES = frozenset({"parameter", "copy", "reshape", "transpose", "slice", "concatenate", "tuple"})


def end_floats_at_240(module: Any) -> None:
    """Every f8e4m3fn becomes f8e4m3; right where no input holds more than 240.

    Raises:
        CompilerError: the program makes such values itself, and they may be larger.
    """
    for computation in module.computations:
        for instruction in computation.instructions:
            is_made = instruction.opcode not in _MOVES
            if is_made and any(s.element_type == F8E4M3FN for s in shapes_of(instruction.shape)):
                message = f"{instruction.name} ({instruction.opcode}) makes values of f8e4m3fn"
                hint = "the target has f8e4m3, which ends at 240: choose --target trn3"
                raise CompilerError(message, hint=hint)
    for shape in shapes_of(module):
        if shape.element_type == F8E4M3FN:
            shape.element_type = F8E4M3


def as_stored(hlo: bytes) -> bytes:
    """Legalised HLO with f8e4m3fn again, the type of the weight files, for XLA:CPU.

    The same bits are the same value as long as no weight is beyond 240, which `quantize` sees to.
    """
    module = LEGACY.FromString(hlo)
    narrow = [shape for shape in shapes_of(module) if shape.element_type == F8E4M3]
    for shape in narrow:
        shape.element_type = F8E4M3FN
    return module.SerializeToString(deterministic=True) if narrow else hlo
