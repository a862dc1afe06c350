"""The embedded target: XLA:CPU executables, one host device and one real rank per tp degree.

Compiling needs jax, not torch. Opening loads native code that was compiled ahead of time; it
never traces, lowers or compiles.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.errors import CompilerError, InputError, ToolchainError
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.cpu_attention import attend_to_filled
from neuronc.targets.cpu_cache import lay_out_caches, lay_out_inputs
from neuronc.targets.cpu_last_row import keep_last_row
from neuronc.targets.cpu_merge import merge_inputs, merge_linears
from neuronc.targets.cpu_payload import in_fixed_order
from neuronc.targets.cpu_rewrites import rewrite_for_cpu
from neuronc.trace.program_spec import MergedWeights, ProgramSignature, TensorSpec

AXIS = "tp"
_PAYLOAD_PACKAGES = ("jax", "jaxlib", "numpy", "ml_dtypes")


def compile_cpu(
    text: str, signature: ProgramSignature, *, tp: int, as_written: bool = False
) -> tuple[bytes, MergedWeights]:
    """Compile one rank's StableHLO ``text`` for ``tp`` ranks.

    Args:
        text: The program.
        signature: Its inputs and outputs.
        tp: How many ranks run it.
        as_written: Compute what the program computes, also for keys behind the filled part of the
            cache and for tokens whose logits nobody asks for: for proving a program that will run
            elsewhere. See `attend_to_filled` and `keep_last_row`.

    Returns:
        The serialized executable, and the weights it takes merged: see `merge_inputs`.

    Raises:
        CompilerError: XLA refuses the program.
    """
    mesh = make_mesh(tp)
    text, merged = merge_linears(text, signature)
    signature = merge_inputs(signature, merged)
    if not as_written:
        text = attend_to_filled(keep_last_row(text, signature), signature)
        text = lay_out_caches(text, signature)
        signature = lay_out_inputs(signature)
    function = jax.shard_map(
        as_jax_function(rewrite_for_cpu(text, signature), signature),
        mesh=mesh,
        in_specs=tuple(_partition(t) for t in signature.inputs),
        out_specs=tuple(_partition(t) for t in signature.outputs),
        check_vma=False,
    )
    shapes = [
        jax.ShapeDtypeStruct(_global_shape(t, tp), _np(t), sharding=sharding(mesh, t))
        for t in signature.inputs
    ]
    donated = tuple(signature.aliases.values())
    try:
        lowered = jax.jit(function, donate_argnums=donated, keep_unused=True).lower(*shapes)
        compiled = lowered.compile(compiler_options=COMPILER_OPTIONS)
    except jax.errors.JaxRuntimeError as error:
        message = f"XLA:CPU refused the program: {error}"
        raise CompilerError(
            message, hint="pass --dump-ir DIR and report the lowered text"
        ) from error
    payload, _, _ = serialize_executable.serialize(compiled)
    return in_fixed_order(bytes(payload)), merged


COMPILER_OPTIONS: dict[str, Any] = {
    # The default order widens all half-precision weights first: gigabytes of temporaries.
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_cpu_prefer_vector_width": 512,  # machines without AVX-512 use what they have
}


def open_cpu(payload: bytes, signature: ProgramSignature, *, tp: int) -> Callable[..., Any]:
    """Load an executable made by `compile_cpu`; call it with global arrays in signature order.

    ``signature`` is what `merge_inputs` makes of the program's.

    Raises:
        InputError: the payload is not an executable of ours.
        ToolchainError: XLA cannot load it on this machine.
    """
    _vet(payload)
    in_tree = jax.tree_util.tree_structure(((0,) * len(signature.inputs), {}))
    out_tree = jax.tree_util.tree_structure((0,) * len(signature.outputs))
    try:
        program: Callable[..., Any] = serialize_executable.deserialize_and_load(
            payload, in_tree, out_tree, execution_devices=jax.devices("cpu")[:tp]
        )
    except (jax.errors.JaxRuntimeError, ValueError, AttributeError) as error:
        message = f"XLA:CPU cannot load this executable: {error}"
        raise ToolchainError(message, hint="run neuronc compile --relink ARTIFACT") from error
    return program


def set_device_count(tp: int) -> None:
    """Give this process at least ``tp`` host devices; has to come before JAX's first use.

    Raises:
        ToolchainError: JAX already runs with fewer devices.
    """
    try:
        if jax.config.jax_num_cpu_devices < tp:  # type: ignore[attr-defined]
            jax.config.update("jax_num_cpu_devices", tp)
    except RuntimeError:
        pass  # already initialised: the count below decides
    found = len(jax.devices("cpu"))
    if found < tp:
        message = f"tp={tp} needs {tp} host devices; JAX runs in this process with {found}"
        raise ToolchainError(message, hint=f"set jax_num_cpu_devices={tp} before using JAX")


def make_mesh(tp: int) -> Mesh:
    """``tp`` host devices along the one axis."""
    set_device_count(tp)
    return Mesh(np.array(jax.devices("cpu")[:tp]), (AXIS,))


def sharding(mesh: Mesh, tensor: TensorSpec) -> NamedSharding:
    """Weights, caches and the rank's number differ by rank; data is the same on all."""
    return NamedSharding(mesh, _partition(tensor))


def _partition(tensor: TensorSpec) -> P:
    return P() if tensor.kind == "data" else P(AXIS)


def _global_shape(tensor: TensorSpec, tp: int) -> tuple[int, ...]:
    if tensor.kind == "data":
        return tensor.shape
    return (tensor.shape[0] * tp, *tensor.shape[1:])


def _np(tensor: TensorSpec) -> "np.dtype[Any]":
    return numpy_dtype(DTYPES[tensor.dtype])


class _Stub:
    """Stands for every object of the wrapping while it is vetted; does nothing when called."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass


class _Vetter(pickle.Unpickler):
    """Reads a wrapping without running it: names are checked, objects are stubs."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] not in _PAYLOAD_PACKAGES:
            message = (
                f"the executable's wrapping imports {module}.{name}, which no XLA program does"
            )
            raise InputError(
                message, hint="do not use this artifact; compile it from the checkpoint"
            )
        return _Stub

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002
        return _Stub()


def _vet(payload: bytes) -> None:
    """Refuse a payload whose wrapping would import anything but JAX's own types.

    JAX wraps executables in a pickle. The machine code inside is trusted as any program is; the
    wrapping has no business beyond JAX, so everything else is refused before it is read.
    """
    try:
        _Vetter(io.BytesIO(payload)).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        message = f"the executable is not a serialized XLA program ({error!r})"
        raise InputError(message, hint="compile the artifact again") from error
