"""transformers' own model of a config.json, without memory for weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neuronc.errors import InputError


def build_meta_model(config: Mapping[str, Any], *, dtype: torch.dtype, attention: str) -> Any:
    """The causal LM of ``config``, ready for inference.

    Parameters are on the meta device; buffers (rotary frequencies) are real.

    Args:
        config: A parsed config.json.
        dtype: Of the parameters, whatever the config says.
        attention: transformers' name of the attention implementation.

    Raises:
        InputError: transformers makes no causal LM of ``config``.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {k: v for k, v in config.items() if k not in ("model_type", "dtype", "torch_dtype")}
    try:
        hf_config = AutoConfig.for_model(config["model_type"], **fields)
        with parameters_on_meta():
            model = AutoModelForCausalLM.from_config(
                hf_config, dtype=dtype, attn_implementation=attention
            )
    except Exception as error:  # a bad field fails wherever transformers first uses it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        message = f"transformers makes no causal LM of this {config['model_type']} config: {reason}"
        raise InputError(message, hint="repair config.json, or use another checkpoint") from error
    return model.eval()


def parameter_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of ``config`` has, without having one.

    A tied LM head and buffers are left out. The order is that of a checkpoint in one safetensors
    file: by name.

    Raises:
        InputError: transformers makes no causal LM of ``config``, or saves it under other names.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping

    model = build_meta_model(config, dtype=torch.float32, attention="eager")
    if get_model_conversion_mapping(model, add_legacy=False):
        message = (
            f"checkpoints of family {config['model_type']!r} have other tensors than the model"
        )
        raise InputError(message, hint="use a checkpoint with weights")
    return {name: tuple(p.shape) for name, p in sorted(model.named_parameters())}


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
