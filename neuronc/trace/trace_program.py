"""One rank's module and a program's shapes to an exported program (`torch.export`).

Nothing here holds weights: parameters and caches are fake tensors, and all of them are inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neuronc.dtypes import DTYPES
from neuronc.families.model_config import ModelConfig
from neuronc.parallel.plan import ParallelPlan
from neuronc.trace.attention import ATTENTION
from neuronc.trace.embed_program import EmbedProgram
from neuronc.trace.layer_body import LayerBody
from neuronc.trace.layer_outputs import TappedProgram, with_taps
from neuronc.trace.masks import masked_by_position
from neuronc.trace.module_names import naming_modules
from neuronc.trace.probe import probe_program
from neuronc.trace.program_spec import ProgramSignature, ProgramSpec
from neuronc.trace.rank_model import build_rank_model
from neuronc.trace.rank_program import RankProgram
from neuronc.trace.shared_layers import LayerCall, as_operators, as_real
from neuronc.trace.signature import make_signature
from neuronc.trace.trace_error import naming_errors


@dataclass(frozen=True, kw_only=True)
class TracedProgram:
    """A program as torch graphs, ready for lowering.

    Attributes:
        exported: The program; layers that share a body are calls of it.
        bodies: Those bodies by name; none where every layer is different.
    """

    spec: ProgramSpec
    signature: ProgramSignature
    exported: torch.export.ExportedProgram
    bodies: Mapping[str, torch.export.ExportedProgram]

    @property
    def graphs(self) -> list[torch.fx.Graph]:
        """The FX graphs of all."""
        return [exported.graph for exported in (self.exported, *self.bodies.values())]


def trace_program(
    config: ModelConfig,
    plan: ParallelPlan,
    spec: ProgramSpec,
    *,
    dtype: str,
    taps: bool = False,
) -> TracedProgram:
    """Export the program ``spec`` of the model ``config``, one rank of ``plan``.

    With ``taps`` it gives out what every layer does, after its own outputs.

    Raises:
        CompilerError: the model cannot be traced; its module and line are named.
    """
    torch_dtype = getattr(torch, DTYPES[dtype].torch)
    model = build_rank_model(config, plan, torch_dtype)
    with naming_errors(model), masked_by_position(ATTENTION), torch.no_grad():
        probed = probe_program(model, config, plan, spec, torch_dtype)
        signature = make_signature(config, plan, spec, probed.caches, dtype=dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            inputs = tuple(
                torch.empty(t.shape, dtype=getattr(torch, DTYPES[t.dtype].torch))
                for t in signature.inputs
            )
        program = make_rank_program(model, config, signature, spec)
        if taps:
            program = TappedProgram(program, model)
            signature = with_taps(signature, probed.layer_outputs, dtype=dtype)
        with naming_modules(model):
            bodies = _export_bodies(probed.shared_layers, config.num_layers)
        with naming_modules(model), as_operators(probed.shared_layers):
            exported = torch.export.export(program, inputs, strict=False)
    return TracedProgram(spec=spec, signature=signature, exported=exported, bodies=bodies)


def make_rank_program(
    model: Any, config: ModelConfig, signature: ProgramSignature, spec: ProgramSpec
) -> nn.Module:
    """A rank's ``model`` as a function from flat inputs to flat outputs."""
    if spec.phase == "embed":
        return EmbedProgram(model, config, spec, signature)
    return RankProgram(model, signature, spec)


def _export_bodies(
    calls: Sequence[LayerCall], num_layers: int
) -> dict[str, torch.export.ExportedProgram]:
    exported = {}
    for call in calls:
        if call.body in exported:
            continue
        with FakeTensorMode(allow_non_fake_inputs=True):
            seen = (torch.empty(t.shape, dtype=t.dtype) for t in call.inputs.values())
            inputs = tuple(as_real(tensor) for tensor in seen)
        body = LayerBody(call, num_layers)
        exported[call.body] = torch.export.export(body, inputs, strict=False)
    return exported
