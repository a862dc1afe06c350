"""StableHLO text of one rank to a JAX function, and from there to an HLO proto.

Only public JAX APIs: a primitive whose lowering merges our module into the one JAX is building.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.extend.core
from jax.interpreters import mlir
from jaxlib.mlir import ir

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

# Where our code lies and who called it is nothing of a program: its file would differ by machine.
jax.config.update("jax_traceback_in_locations_limit", 0)

_program = jax.extend.core.Primitive("neuronc_program")
_program.multiple_results = True


@_program.def_abstract_eval  # type: ignore[untyped-decorator]
def _abstract(*_args: Any, text: str, outputs: tuple[TensorSpec, ...]) -> list[Any]:  # noqa: ARG001
    return [jax.core.ShapedArray(o.shape, _np(o)) for o in outputs]


def _lowering(ctx: Any, *args: Any, text: str, outputs: tuple[TensorSpec, ...]) -> list[Any]:
    target = ctx.module_context.module
    with target.context:
        source = ir.Module.parse(text)
    name = mlir.merge_mlir_modules(target, "neuronc_program", source)
    call = ir.Operation.create(
        "func.call",
        results=[_tensor_type(output) for output in outputs],
        operands=list(args),
        attributes={"callee": ir.FlatSymbolRefAttr.get(name)},
    )
    return list(call.results)


def _tensor_type(tensor: TensorSpec) -> Any:
    return ir.RankedTensorType.get(tensor.shape, ir.Type.parse(DTYPES[tensor.dtype].mlir))


mlir.register_lowering(_program, _lowering)


def as_jax_function(text: str, signature: ProgramSignature) -> Callable[..., tuple[Any, ...]]:
    """One rank's program as a function of its inputs in signature order."""

    def program(*inputs: Any) -> tuple[Any, ...]:
        return tuple(_program.bind(*inputs, text=text, outputs=signature.outputs))

    # JAX writes a function's file into every executable; the module's name is the same everywhere.
    program.__code__ = program.__code__.replace(co_filename=__name__)
    return program


def to_hlo_proto(text: str, signature: ProgramSignature) -> bytes:
    """Serialized ``xla.HloModuleProto`` of one rank's program, caches aliased."""
    donated = tuple(signature.aliases.values())
    shapes = [jax.ShapeDtypeStruct(t.shape, _np(t)) for t in signature.inputs]
    function = as_jax_function(text, signature)
    lowered = jax.jit(function, donate_argnums=donated, keep_unused=True).lower(*shapes)
    computation: Any = lowered.compiler_ir("hlo")
    proto: bytes = computation.as_serialized_hlo_module_proto()
    return proto


def _np(tensor: TensorSpec) -> "np.dtype[Any]":
    return numpy_dtype(DTYPES[tensor.dtype])
