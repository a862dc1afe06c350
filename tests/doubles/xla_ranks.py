"""One rank's legalised HLO on several real XLA:CPU ranks, with real collectives between them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters.mlir import make_ir_context
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxlib import _jax
from jaxlib.mlir import ir

from neuronc.lower.stablehlo_to_hlo import as_jax_function
from neuronc.trace.program_spec import ProgramSignature, TensorSpec

Array = np.ndarray[Any, Any]
DTYPES = {
    1: "bool", 2: "i8", 3: "i16", 4: "i32", 6: "u8", 8: "u32", 10: "f16", 11: "f32", 16: "bf16",
}  # fmt: skip
"""Our names by xla.PrimitiveType."""


def to_stablehlo(hlo: bytes) -> str:
    """What XLA reads in ``hlo``, its ranks as the partitions that XLA:CPU knows them as."""
    with make_ir_context():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        main = next(op for op in module.body.operations if op.name.value == "main")
        for op in (module.operation, main.operation):
            for name in list(op.attributes):
                if name.startswith("mhlo.") or name == "arg_attrs":
                    del op.attributes[name]
        for op in main.regions[0].blocks[0].operations:
            if op.name in ("stablehlo.all_reduce", "stablehlo.all_gather"):
                channel = "#stablehlo.channel_handle<handle = 1, type = 1>"
                op.attributes["channel_handle"] = ir.Attribute.parse(channel)
                op.attributes["use_global_device_ids"] = ir.UnitAttr.get()
        return str(module)


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
