"""One rank's legalised HLO on several real XLA:CPU ranks, with real collectives between them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.targets.neuron.hlo.to_stablehlo import to_stablehlo
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

Array = np.ndarray[Any, Any]
DTYPES = {
    1: "bool", 2: "i8", 3: "i16", 4: "i32", 6: "u8", 8: "u32", 10: "f16", 11: "f32", 16: "bf16",
}  # fmt: skip
"""Our names by xla.PrimitiveType."""


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
        signature = ProgramSignature(inputs=inputs, outputs=outputs, aliases={})
        mesh = Mesh(np.array(jax.devices("cpu")[:size]), ("ranks",))
        function = jax.shard_map(
            as_jax_function(to_stablehlo(hlo), signature),
            mesh=mesh,
            in_specs=P("ranks"),
            out_specs=P("ranks"),
            check_vma=False,
        )
        self.call: Callable[..., Any] = jax.jit(function)

    def run(self, inputs_by_rank: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """Outputs ``[rank][output]`` of inputs ``[rank][input]``."""
        together = [np.concatenate(parts) for parts in zip(*inputs_by_rank, strict=True)]
        found = [np.asarray(output) for output in self.call(*together)]
        by_output = [np.split(output, self.world_size) for output in found]
        return [list(parts) for parts in zip(*by_output, strict=True)]
