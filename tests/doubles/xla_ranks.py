"""One rank's legalised HLO on several real XLA:CPU ranks, with real collectives between them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.neuron.hlo.schema import LEGACY
from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
from neuronc.targets.neuron.hlo.walk import shapes_of
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.doubles.top_k_call import run_calls

Array = np.ndarray[Any, Any]
DTYPES = {
    1: "bool", 2: "i8", 3: "i16", 4: "i32", 6: "u8", 8: "u32", 10: "f16", 11: "f32", 16: "bf16",
    20: "f8e4m3fn", 28: "f8e4m3fn",
}  # fmt: skip
"""Our names by xla.PrimitiveType; f8e4m3 (28) is the other type's values up to 240."""
_F8E4M3FN, _F8E4M3, _EXPONENT = 20, 28, 0x78


def specs(tensors: dict[str, Any]) -> tuple[TensorSpec, ...]:
    """Specs of named HLO shapes."""
    return tuple(
        TensorSpec(
            name=n, kind="data", shape=tuple(s.dimensions), dtype=DTYPES[int(s.element_type)]
        )
        for n, s in tensors.items()
    )


class RanksProgram:
    """A program compiled for ``world_size`` ranks; each rank brings inputs and gets outputs."""

    def __init__(
        self, hlo: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], size: int
    ) -> None:
        self.world_size, self.outputs = size, outputs
        hlo, self.ends_at_240 = _as_f8e4m3fn(hlo)
        signature = ProgramSignature(inputs=inputs, outputs=outputs, aliases={})
        mesh = Mesh(np.array(jax.devices("cpu")[:size]), ("ranks",))
        function = jax.shard_map(
            as_jax_function(run_calls(to_stablehlo(hlo)), signature),
            mesh=mesh,
            in_specs=P("ranks"),
            out_specs=P("ranks"),
            check_vma=False,
        )
        self.call: Callable[..., Any] = jax.jit(function)

    def run(self, inputs_by_rank: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Outputs ``[rank][output]`` of inputs ``[rank][input]``."""
        for array in (array for rank in inputs_by_rank for array in rank):
            if self.ends_at_240 and array.dtype.name == "float8_e4m3fn":
                assert (array.view(np.uint8) & _EXPONENT != _EXPONENT).all(), "beyond 240"
        together = [np.concatenate(parts) for parts in zip(*inputs_by_rank, strict=True)]
        found = [np.asarray(output) for output in self.call(*together)]
        by_output = [np.split(output, self.world_size) for output in found]
        return [list(parts) for parts in zip(*by_output, strict=True)]


def _as_f8e4m3fn(hlo: bytes) -> tuple[bytes, bool]:
    """``hlo`` with f8e4m3 as the type that XLA:CPU and numpy share, and whether it had any."""
    module = LEGACY.FromString(hlo)
    narrow = [shape for shape in shapes_of(module) if shape.element_type == _F8E4M3]
    for shape in narrow:
        shape.element_type = _F8E4M3FN
    return module.SerializeToString(deterministic=True), bool(narrow)
