"""transformers' own model of a config.json, without memory for weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from neuronc.errors import InputError
from neuronc.families.embedding import FIELD

_NOT_FIELDS = ("model_type", "dtype", "torch_dtype", FIELD)


def build_meta_model(config: Mapping[str, Any], *, dtype: torch.dtype, attention: str) -> Any:
    """`build_model` with parameters on the meta device; buffers (rotary frequencies) are real.

    No memory is taken for parameters, nor are their first values computed.

    Raises:
        InputError: as `build_model`.
    """
    model = build_shapes(config, dtype=dtype, attention=attention)
    if _fill_buffers(model):
        return model
    with parameters_on_meta():
        return build_model(config, dtype=dtype, attention=attention)


def build_shapes(config: Mapping[str, Any], *, dtype: torch.dtype, attention: str) -> Any:
    """`build_model` with parameters and buffers on the meta device: nothing but shapes.

    Raises:
        InputError: as `build_model`.
    """
    try:
        with torch.device("meta"):
            return build_model(config, dtype=dtype, attention=attention)
    except InputError:  # a few models compute with numbers while they are made
        with parameters_on_meta():
            return build_model(config, dtype=dtype, attention=attention)


def build_model(config: Mapping[str, Any], *, dtype: torch.dtype, attention: str) -> Any:
    """The model of ``config``, initialised as transformers does, ready for inference.

    A causal LM, or an encoder without a head where ``config`` says how to embed.

    Args:
        config: A parsed config.json.
        dtype: Of the parameters, whatever the config says.
        attention: transformers' name of the attention implementation; where that is one of
            ours and the family does not take such, it is eager.

    Raises:
        InputError: transformers makes no causal LM of ``config``.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    embeds = FIELD in config
    auto_class = AutoModel if embeds else AutoModelForCausalLM
    fields = {k: v for k, v in config.items() if k not in _NOT_FIELDS}
    try:
        hf_config = AutoConfig.for_model(config["model_type"], **fields)
        model = auto_class.from_config(
            hf_config,
            dtype=dtype,
            attn_implementation=_possible(attention, auto_class, hf_config),
            experts_implementation="eager",
        )
    except Exception as error:  # a bad field fails wherever transformers first uses it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        kind = "encoder" if embeds else "causal LM"
        message = f"transformers makes no {kind} of this {config['model_type']} config: {reason}"
        raise InputError(message, hint="repair config.json, or use another checkpoint") from error
    if embeds and hasattr(model, "pooler"):
        model.pooler = None  # BERT's own, of which an embedding is not made
    return model.eval()


def _possible(attention: str, auto_class: Any, hf_config: Any) -> str:
    """``attention``, or eager for a family that does not take registered attention functions."""
    model_class = auto_class._model_mapping[type(hf_config)]
    takes_any = getattr(model_class, "_supports_attention_backend", False)
    return attention if takes_any or attention in ("eager", "sdpa") else "eager"


def parameter_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that the model of ``config`` is given, without a checkpoint.

    A tied LM head and buffers that are not saved are left out. The order is that of a checkpoint
    in one safetensors file: by name.

    Raises:
        InputError: transformers makes no causal LM of ``config``.
    """
    model = build_shapes(config, dtype=torch.float32, attention="eager")
    stored = model.state_dict()
    return {name: tuple(stored[name].shape) for name in stored_names(model)}


def stored_names(model: Any) -> list[str]:
    """Names of what a checkpoint of ``model`` has, sorted: no second name of a tied parameter.

    Buffers that are saved (a router's bias in DeepSeek-V3) are among them.
    """
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    return sorted(set(model.state_dict()) - tied)


def _fill_buffers(model: Any) -> bool:
    """Compute the buffers of ``model`` as transformers does after it has read a checkpoint.

    False where that does not give all of them their values, as for a family that keeps tensors in
    attributes; then the model is of no use.
    """
    with torch.no_grad():
        for module in model.modules():
            vars(module).pop("_is_hf_initialized", None)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.device.type == "meta":
                    setattr(module, name, torch.zeros_like(buffer, device="cpu"))
        placed = list(model.buffers())
        versions = {id(buffer): buffer._version for buffer in placed}
        model.initialize_weights()
    own = (value for module in model.modules() for value in vars(module).values())
    held = [value for value in own if isinstance(value, torch.Tensor)]
    is_written = all(b._version > versions.get(id(b), -1) for b in model.buffers() if b.numel())
    return is_written and not any(value.device.type == "meta" for value in held)


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
