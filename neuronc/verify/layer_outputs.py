"""The outputs of a model's decoder layers, for telling where two runs begin to differ."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


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


def decoder_layers(model: Any) -> list[tuple[str, nn.Module]]:
    """The layers by name: the first list of modules that is as long as the model has layers."""
    number = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return [(f"{name}.{i}", layer) for i, layer in enumerate(module)]
    return []
