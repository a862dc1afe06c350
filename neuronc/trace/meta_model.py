"""transformers' own model of a config.json, without memory for weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def build_meta_model(config: Mapping[str, Any], *, dtype: torch.dtype, attention: str) -> Any:
    """The causal LM of ``config``, ready for inference.

    Parameters are on the meta device; buffers (rotary frequencies) are real.

    Args:
        config: A parsed config.json.
        dtype: Of the parameters, whatever the config says.
        attention: transformers' name of the attention implementation.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {k: v for k, v in config.items() if k not in ("model_type", "dtype", "torch_dtype")}
    hf_config = AutoConfig.for_model(config["model_type"], **fields)
    with parameters_on_meta():
        model = AutoModelForCausalLM.from_config(
            hf_config, dtype=dtype, attn_implementation=attention
        )
    return model.eval()


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Within, every parameter is moved to the meta device as it is registered; buffers stay."""
    register = nn.Module.register_parameter

    def register_on_meta(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and param.device.type != "meta":
            param = nn.Parameter(param.to("meta"), requires_grad=False)
        register(self, name, param)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
