"""The outputs of a model's decoder layers, for telling where two runs begin to differ."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from neuronc.trace.shared_layers import decoder_layers


@contextmanager
def watching(model: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Within, the dict has each decoder layer's last output ``[N, S, hidden]``, in order."""
    outputs: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            outputs[name] = (output[0] if isinstance(output, tuple) else output).detach()

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in decoder_layers(model)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class TappedProgram(nn.Module):
    """``program`` of ``model``, which gives out what every layer does, after its own outputs."""

    def __init__(self, program: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.held = (program, model)  # in a tuple: weights are inputs, not state

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class."""
        program, model = self.held
        with watching(model) as outputs:
            own = program(*inputs)
        return (*own, *outputs.values())


def with_taps(
    signature: ProgramSignature, outputs: Mapping[str, torch.Tensor], *, dtype: str
) -> ProgramSignature:
    """``signature`` of a program that also gives out the layers' ``outputs``."""
    taps = [
        TensorSpec(name=name, kind="data", shape=tuple(output.shape), dtype=dtype)
        for name, output in outputs.items()
    ]
    return replace(signature, outputs=(*signature.outputs, *taps))
