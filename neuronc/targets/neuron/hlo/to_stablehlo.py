"""Legalised HLO back to StableHLO, so that XLA:CPU runs the very program that neuronx-cc reads.

XLA's own importer does the reading (``jaxlib._jax.mlir.hlo_to_stablehlo``, which JAX uses for its
exported programs and documents nowhere else).
"""

from typing import Any

import jax
from jax.interpreters.mlir import make_ir_context
from jaxlib import _jax
from jaxlib.mlir import ir

from neuronc.errors import CompilerError

_COLLECTIVES = ("stablehlo.all_reduce", "stablehlo.all_gather")
_CHANNEL = "#stablehlo.channel_handle<handle = 1, type = 1>"
_REPORT = "report this program: what cannot be read back cannot be verified either"


def to_stablehlo(hlo: bytes) -> str:
    """StableHLO text of one rank's legalised HLO, for `neuronc.lower.stablehlo_to_hlo`.

    Names and aliases of inputs and outputs are left out: a function's caller gives them anew. Legal
    HLO has no channels, and its ranks are replicas; on XLA:CPU they are partitions, so collectives
    get a channel and keep their groups.

    Args:
        hlo: Serialized ``xla.HloModuleProto`` as `legalise` makes it.

    Raises:
        CompilerError: XLA does not read it, or it has a collective whose ranks are unknown here.
    """
    with make_ir_context():
        try:
            module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        except (ValueError, ir.MLIRError, jax.errors.JaxRuntimeError) as error:
            message = f"XLA does not read the legalised HLO: {error}"
            raise CompilerError(message, hint=_REPORT) from error
        main = next(op for op in module.body.operations if op.name.value == "main")
        for op in (module.operation, main.operation):
            _drop_attributes(op)
        module.operation.walk(_to_partitions)
        return str(module)


def _drop_attributes(op: Any) -> None:
    for name in list(op.attributes):
        if name.startswith("mhlo.") or name in ("arg_attrs", "res_attrs"):
            del op.attributes[name]


def _to_partitions(op: Any) -> Any:
    if op.name in _COLLECTIVES:
        op.attributes["channel_handle"] = ir.Attribute.parse(_CHANNEL)
        op.attributes["use_global_device_ids"] = ir.UnitAttr.get()
    elif "replica_groups" in op.attributes or "source_target_pairs" in op.attributes:
        message = f"the legalised HLO has a collective {op.name}"
        raise CompilerError(message, hint=_REPORT)
    return ir.WalkResult.ADVANCE
