"""Small HLO programs: made from JAX functions, legalised for Neuron, and run on XLA:CPU again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet
from jaxlib.xla_client import hlo as xla_hlo

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.neuron.hlo.legalise import legalise
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
from neuronc.targets.neuron.hlo.walk import shapes_of, walk
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

Arrays = tuple[np.ndarray[Any, Any], ...]
_DTYPES = {numpy_dtype(dtype): name for name, dtype in DTYPES.items()}
_DTYPES[np.dtype(np.uint32)] = "i32"  # of inputs only, where it is not looked at
_NARROW = {np.dtype(np.int64): np.dtype(np.int32), np.dtype(np.uint64): np.dtype(np.uint32)}
_WIDE = (5, 9)  # s64 and u64, xla.PrimitiveType


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A function as it is and as legal HLO, both compiled for XLA:CPU."""

    original: Callable[..., Arrays]
    legal: Callable[..., Arrays]
    module: Any

    def check(self, *arrays: Any) -> None:
        """Both give the same for ``arrays``, bit by bit."""
        found, expected = self.legal(*map(narrow, arrays)), self.original(*arrays)
        for one, other in zip(found, map(narrow, expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(_bits(one), _bits(other), strict=True)

    @property
    def opcodes(self) -> set[str]:
        """Every opcode in the legal module."""
        return {i.opcode for c in self.module.computations for i in c.instructions}


def make_pair(function: Callable[..., Any], *arrays: Any, x64: bool = False) -> Pair:
    """``function`` and its legal HLO, for inputs like ``arrays``."""

    def original(*given: Any) -> Arrays:
        with jax.enable_x64(x64):
            return tuple(np.asarray(output) for output in jax.tree.leaves(compiled(*given)))

    compiled = jax.jit(function, keep_unused=True)
    given, outputs = (tuple(map(narrow, values)) for values in (arrays, original(*arrays)))
    with jax.enable_x64(x64):
        computation: Any = compiled.lower(*arrays).compiler_ir("hlo")
    hlo = legalise(computation.as_serialized_hlo_module_proto(), signature_of(given, outputs))
    module = LEGACY.FromString(hlo)
    assert_legal(module)
    return Pair(original=original, legal=runner(hlo, outputs), module=module)


def assert_same(function: Callable[..., Any], *arrays: Any, x64: bool = False) -> Pair:
    """Legalise ``function`` and compare what it gives for ``arrays``."""
    pair = make_pair(function, *arrays, x64=x64)
    pair.check(*arrays)
    return pair


def assert_legal(module: Any) -> None:
    """Nothing in ``module`` that neuronx-cc does not take, as far as these rewrites go."""
    assert not any(len(UnknownFieldSet(message)) for message in walk(module))
    assert not any(shape.element_type in _WIDE for shape in shapes_of(module))
    for computation in module.computations:
        for instruction in computation.instructions:
            assert instruction.opcode not in ("sort", "topk")
            assert instruction.opcode != "reduce" or len(instruction.operand_ids) == 2
            assert instruction.comparison_type != "TOTALORDER"


def from_text(text: str) -> bytes:
    """HLO text as a proto."""
    proto: bytes = xla_hlo.hlo_module_from_text(text).as_serialized_hlo_module_proto()
    return proto


def legal_module(hlo: bytes, *, num_inputs: int = 1, num_outputs: int = 1, **how: bool) -> Any:
    """``hlo``, of inputs and outputs that need no more than a name, as legalised."""
    scalar = np.zeros((), np.float32)
    signature = signature_of([scalar] * num_inputs, [scalar] * num_outputs)
    legal = legalise(hlo, signature, **how)
    return LEGACY.FromString(legal)


def signature_of(arrays: Any, outputs: Any) -> ProgramSignature:
    """A signature with plain data in and out."""

    def specs(letter: str, values: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=f"{letter}{n}", kind="data", shape=v.shape, dtype=_DTYPES[v.dtype])
            for n, v in enumerate(values)
        )

    return ProgramSignature(inputs=specs("x", arrays), outputs=specs("y", outputs), aliases={})


def narrow(array: Any) -> np.ndarray[Any, Any]:
    """``array`` with 32-bit integers in the place of 64-bit ones."""
    return np.asarray(array, dtype=_NARROW.get(array.dtype, array.dtype))


def runner(hlo: bytes, outputs: Any) -> Callable[..., Arrays]:
    """``hlo`` on XLA:CPU; ``outputs`` are like its outputs in shape and type."""
    compiled = jax.jit(as_jax_function(to_stablehlo(hlo), signature_of([], outputs)))
    return lambda *arrays: tuple(np.asarray(output) for output in compiled(*arrays))


def _bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
