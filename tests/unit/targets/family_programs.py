"""Programs of tiny families as StableHLO, and inputs for them."""

from typing import Any

import numpy as np

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.families.model_config import read_model_config
from neuronc.lower.finish_stablehlo import finish_stablehlo
from neuronc.lower.ir_dump import IRDump
from neuronc.lower.torch_to_stablehlo import traced_to_stablehlo
from neuronc.parallel.plan import plan_parallelism
from neuronc.trace.meta_model import parameter_shapes
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec
from neuronc.trace.trace_program import trace_program
from tests.tiny_families import TINY_FAMILIES

LENGTH, BUCKET = 64, 8


def lowered(
    variant: str, phase: Any = "prefill", dtype: str = "f32", *, tp: int = 1
) -> tuple[str, ProgramSignature]:
    from transformers import AutoConfig

    model_type, fields = TINY_FAMILIES[variant]
    raw = AutoConfig.for_model(model_type, **fields).to_dict()
    config = read_model_config(raw, source=variant)
    plan = plan_parallelism(config, parameter_shapes(raw), tp)
    bucket = BUCKET if phase == "prefill" else LENGTH
    spec = ProgramSpec(phase=phase, bucket=bucket, batch_size=2, max_length=LENGTH)
    traced = trace_program(config, plan, spec, dtype=dtype)
    text = traced_to_stablehlo(traced, IRDump(None))
    return finish_stablehlo(text, tp=tp, graphs=traced.graphs), traced.signature


def inputs(signature: ProgramSignature, **data: int) -> dict[str, Any]:
    rng, found = np.random.default_rng(0), {}
    for tensor in signature.inputs:
        if tensor.kind == "data":
            found[tensor.name] = np.full(tensor.shape, data.get(tensor.name, 7), np.int32)
        else:
            values = 0.3 * rng.standard_normal(tensor.shape)
            found[tensor.name] = values.astype(numpy_dtype(DTYPES[tensor.dtype]))
    return found
