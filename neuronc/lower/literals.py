"""Constant tensors of a traced program (rotary frequencies and the like) as plain dense constants.

torch-mlir would store them as resources, which the step to HLO does not read. Weights never get
here: they are inputs.
"""

from typing import Any

import numpy as np
import torch
from torch_mlir import ir
from torch_mlir.extras.fx_importer import FxImporterHooks

from neuronc.dtypes import from_torch, numpy_dtype
from neuronc.errors import CompilerError

_LARGEST_CONSTANT_BYTES = 16 * 2**20
_SIGNED = ("i8", "i16", "i32", "i64")  # torch-mlir's tensor types spell the sign out


class DenseLiterals(FxImporterHooks):  # type: ignore[misc]
    """Importer hook that writes each tensor literal as ``dense<...>``."""

    def resolve_literal(self, gni: Any, literal: Any, info: Any) -> Any:  # noqa: ARG002
        """A ``torch.vtensor.literal`` for a tensor; None leaves other literals to the importer.

        Raises:
            CompilerError: the constant is so large that it must be a weight.
        """
        if not isinstance(literal, torch.Tensor):
            return None
        if literal.nbytes > _LARGEST_CONSTANT_BYTES:
            message = (
                f"the traced program holds a constant of shape {list(literal.shape)}"
                f" ({literal.nbytes} bytes); weights must be inputs"
            )
            raise CompilerError(message, hint="this family keeps state that neuronc does not know")
        dtype = from_torch(str(literal.dtype), subject="a constant of the traced program")
        # tolist is the one way to the values that works while tracing with fake tensors
        array = np.array(literal.tolist(), dtype=numpy_dtype(dtype)).reshape(tuple(literal.shape))
        element = f"s{dtype.mlir}" if dtype.name in _SIGNED else dtype.mlir
        vtensor = f"!torch.vtensor<[{','.join(map(str, literal.shape))}],{element}>"
        value = ir.DenseElementsAttr.get(
            array, type=ir.Type.parse(element), shape=list(literal.shape)
        )
        return ir.Operation.create(
            "torch.vtensor.literal", results=[ir.Type.parse(vtensor)], attributes={"value": value}
        ).result
