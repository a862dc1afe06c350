"""Opening GGUF files: names, shapes and config as in transformers, values one tensor at a time.

transformers says which parameter a GGUF tensor belongs to and how llama.cpp's rearranging (as of
the rotary halves of q and k) is undone; the values themselves come from the gguf library.
"""

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.checkpoint.gguf_config import check_architecture, read_gguf_config
from neuronc.checkpoint.gguf_header import GgufHeader, GgufTensor, broken, read_gguf_header
from neuronc.checkpoint.paths import reading
from neuronc.checkpoint.tensor_info import TensorInfo, nearest, no_such_tensor
from neuronc.dtypes import DTYPES
from neuronc.errors import InputError, ToolchainError

Parts = tuple[GgufTensor, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufReader:
    """A `TensorReader` over a GGUF file.

    Attributes:
        path: The file.
        infos: What each parameter looks like once it is read.
        parts: The GGUF tensors that a parameter is made of, most often one.
        names: From GGUF name to parameter, as transformers' processors want it.
        processor: transformers' processor for the architecture.
    """

    path: Path
    infos: Mapping[str, TensorInfo]
    parts: Mapping[str, Parts]
    names: Mapping[str, str]
    processor: Any

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A fresh f32 array of the dequantised values; nothing is kept."""
        if name not in self.infos:
            raise no_such_tensor(name, self.infos, subject=self.path)
        collected: dict[str, Any] = {}
        values: Any = None
        for part in self.parts[name]:
            result = self.processor.process(
                weights=read_stored(self.path, part),
                name=part.name,
                tensor_key_mapping=self.names,
                parsed_parameters={"tensors": collected},
            )
            values = result.weights
        if name in collected:  # a processor that merges several parts, as the experts of a layer
            values = collected[name].numpy()
        if values.shape != self.infos[name].shape:
            what = f"gives {name!r} the shape {list(values.shape)}"
            raise broken(self.path, f"{what}; its config needs {list(self.infos[name].shape)}")
        return np.array(values, dtype=np.float32, order="C")


def open_gguf(path: Path) -> tuple[dict[str, Any], dict[str, TensorInfo], GgufReader]:
    """Config, tensor infos in file order, and reader of a GGUF file; imports transformers and torch.

    No values are read. A file without ``output.weight`` has tied embeddings: its config says so,
    and there is no ``lm_head.weight`` among the tensors.

    Raises:
        InputError: Damaged file, unknown architecture or quantisation, tensors that do not match.
        ToolchainError: The gguf library is not installed.
    """
    require_gguf()
    header = read_gguf_header(path)
    _check_stored(path, header)
    check_architecture(path, header)
    model, processor, names = _describe(path, header)
    parts = _parts_by_parameter(path, header, names)
    infos = _infos(path, parts, model)
    config = json.loads(model.config.to_json_string(use_diff=False))
    config.pop("_name_or_path", None)  # a path of this machine
    config |= {"architectures": [type(model).__name__], "dtype": "float32"}
    reader = GgufReader(path=path, infos=infos, parts=parts, names=names, processor=processor)
    return config, infos, reader


def require_gguf() -> None:
    """Raise `ToolchainError` unless the gguf library is installed."""
    if importlib.util.find_spec("gguf") is None:
        message = "reading .gguf files needs the gguf library, which is not installed"
        raise ToolchainError(message, hint="pip install 'neuronc[gguf]'")


def _check_stored(path: Path, header: GgufHeader) -> None:
    end, before = 0, ""
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            what = f"has tensor {tensor.name!r} at byte {tensor.offset}, within {before!r}"
            raise broken(path, f"{what}, which ends at byte {end}")
        end, before = tensor.offset + math.prod(_stored_shape(path, tensor)), tensor.name
        if end > header.file_bytes:
            what = f"is truncated: tensor {tensor.name!r} ends at byte {end}"
            raise broken(path, f"{what}, but the file has {header.file_bytes}")


def _stored_shape(path: Path, tensor: GgufTensor) -> tuple[int, ...]:
    """The shape with the last dim in bytes, which is how the gguf library takes quantised values."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    try:
        return tuple(quant_shape_to_byte_shape(tensor.shape, GGMLQuantizationType(tensor.type_id)))
    except ValueError as error:
        what = f"stores tensor {tensor.name!r} {list(tensor.shape)} as type {tensor.type_id}"
        raise broken(path, f"{what}, which cannot be read: {error}") from error


def read_stored(path: Path, tensor: GgufTensor) -> "np.ndarray[Any, Any]":
    """The dequantised values of one GGUF tensor, f32 in its own shape.

    Raises:
        InputError: The file cannot be read, or the quantisation is not one that gguf knows.
    """
    from gguf import GGMLQuantizationType, dequantize

    shape = _stored_shape(path, tensor)
    kind = GGMLQuantizationType(tensor.type_id)
    try:
        with reading(path):
            raw = np.memmap(path, np.uint8, "r", tensor.offset, shape)
        return np.asarray(dequantize(np.asarray(raw), kind))
    except (NotImplementedError, ValueError) as error:
        message = f"cannot read tensor {tensor.name!r} of {path}, stored as {kind.name}: {error}"
        raise InputError(message, hint="use another quantisation of the model") from error


def _describe(path: Path, header: GgufHeader) -> tuple[Any, Any, dict[str, str]]:
    """The model without values, the tensor processor, and parameter names by GGUF name."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    try:
        config = read_gguf_config(path, header)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        processor_class = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
        processor = processor_class(config=config.to_dict())
        names = _parameter_names(model, processor, header.architecture)
    except Exception as error:  # transformers fails in many ways on metadata it does not expect
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        message = f"transformers finds no causal language model in {path}: {reason}"
        raise InputError(message, hint="use a safetensors checkpoint of the model") from error
    return model, processor, names


def _parameter_names(model: Any, processor: Any, architecture: str) -> dict[str, str]:
    """Parameter by GGUF name, equal to ``get_gguf_hf_weights_map`` of transformers.

    That function asks again for every submodule, which took eight seconds for a model of 30 layers.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = {name: key for key, name in MODEL_ARCH_NAMES.items()}[architecture]
    name_map = get_tensor_name_map(arch, model.config.num_hidden_layers)
    names: dict[str, str] = {}
    for parameter in model.state_dict():
        plain, dot, kind = processor.preprocess_name(parameter).rpartition(".")
        if kind not in ("weight", "bias"):
            plain, dot, kind = processor.preprocess_name(parameter), "", ""
        # some models, as BLOOM, were converted without their head and so without this prefix
        bare = plain.removeprefix(f"{model.base_model_prefix}.")
        found = name_map.get_name(plain) or name_map.get_name(bare)
        if found is not None:
            names[found + dot + kind] = parameter
        else:
            processor.perform_fallback_tensor_mapping(names, dot + kind, "", plain + dot + kind)
    return names


def _parts_by_parameter(
    path: Path, header: GgufHeader, names: Mapping[str, str]
) -> dict[str, Parts]:
    parts: dict[str, Parts] = {}
    for tensor in header.tensors:
        # the stacked experts of a layer are a parameter without ".weight"
        name = names.get(tensor.name) or names.get(tensor.name.removesuffix(".weight"))
        if name is None:
            message = f"{path} has tensor {tensor.name!r}, for which the model has no parameter"
            message += nearest(tensor.name, names)
            raise InputError(message, hint="use a safetensors checkpoint of the model")
        parts[name] = (*parts.get(name, ()), tensor)
    return parts


def _infos(path: Path, parts: Mapping[str, Parts], model: Any) -> dict[str, TensorInfo]:
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
    missing = sorted(shapes.keys() - parts.keys() - tied)
    if missing:
        raise broken(path, f"lacks {len(missing)} tensors of its model, as {missing[0]!r}")
    for name, stored in parts.items():
        found = sum(math.prod(tensor.shape) for tensor in stored)
        if found != math.prod(shapes[name]):
            what = f"has {found} values for {name!r}"
            raise broken(path, f"{what}; its config needs {list(shapes[name])}")
    f32 = DTYPES["f32"]
    return {name: TensorInfo(name=name, shape=shapes[name], dtype=f32) for name in parts}
