"""A PEFT LoRA adapter on disk: which of its tensors change which parameter of the model.

PEFT names them ``base_model.model.MODULE.lora_A.weight`` ``[rank, in]`` and ``...lora_B.weight``
``[out, rank]``, for an embedding ``MODULE.lora_embedding_A`` ``[rank, tokens]`` and
``..._B`` ``[width, rank]``; what it trained in full has the parameter's own name, with
``base_layer.`` before the last part where the module is adapted as well.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.folder import open_safetensors, open_torch
from neuronc.checkpoint.lora_config import ADAPTER_CONFIG, LoraConfig, read_lora_config
from neuronc.checkpoint.paths import contained_file
from neuronc.checkpoint.tensor_info import MergedAdapter, TensorInfo, TensorReader
from neuronc.errors import InputError

SAFETENSORS = "adapter_model.safetensors"
TORCH = "adapter_model.bin"

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(.+)\.lora_(?:([AB])\.weight|embedding_([AB])|(B)\.bias)")
_WRAPPERS = re.compile(r"\.(?:base_layer|modules_to_save)(?=\.[^.]+$)")
_AGAIN = "save the adapter again with PEFT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Factors:
    """The low-rank change of one module's weight, and of its bias if `bias` is there."""

    a: TensorInfo
    b: TensorInfo
    is_embedding: bool
    bias: TensorInfo | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """An opened adapter; no values are read.

    Attributes:
        folder: Where it is.
        identity: What manifests record of it.
        config: How it is scaled.
        factors: By the name of the module that they change.
        replaced: Parameter to the tensor that takes its place.
        reader: Reads its tensors, by the names they have there.
    """

    folder: Path
    identity: MergedAdapter
    config: LoraConfig
    factors: Mapping[str, Factors]
    replaced: Mapping[str, TensorInfo]
    reader: TensorReader


def open_adapter(folder: Path) -> Adapter:
    """Open the folder that PEFT's ``save_pretrained`` wrote; only ``.bin`` files import torch.

    Raises:
        InputError: it is no LoRA adapter, one that cannot be merged exactly, or damaged; a tensor
            is not named as PEFT names them, or a factor lacks its twin.
    """
    if not folder.is_dir():
        message = f"no adapter at {folder}: there is no such folder"
        raise InputError(message, hint="pass a local folder; download the adapter first")
    config = read_lora_config(folder)
    path, infos, reader = _open_file(folder)
    factors, replaced = _sort_out(path, infos)
    identity = MergedAdapter(
        name=folder.resolve().name,
        file=path.name,
        sha256=sha256_file(path),
        config_sha256=sha256_file(folder / ADAPTER_CONFIG),
    )
    return Adapter(
        folder=folder,
        identity=identity,
        config=config,
        factors=factors,
        replaced=replaced,
        reader=reader,
    )


def _open_file(folder: Path) -> tuple[Path, dict[str, TensorInfo], TensorReader]:
    for name, opener in ((SAFETENSORS, open_safetensors), (TORCH, open_torch)):
        path = contained_file(folder, name)
        if path.is_file():
            return path, *opener(folder, {path: None})
    message = f"{folder} has no weights: expected {SAFETENSORS} or {TORCH}"
    raise InputError(message, hint="pass the folder that PEFT's save_pretrained wrote")


def _sort_out(
    path: Path, infos: Mapping[str, TensorInfo]
) -> tuple[dict[str, Factors], dict[str, TensorInfo]]:
    parts: dict[str, dict[str, TensorInfo]] = {}
    replaced: dict[str, TensorInfo] = {}
    for name, info in infos.items():
        if not name.startswith(_PREFIX) or not info.dtype.is_float:
            what = f"tensor {name!r}, {info.dtype.name}"
            message = f"{path} holds {what}; expected floating point tensors named {_PREFIX}..."
            raise InputError(message, hint=_AGAIN)
        bare = name.removeprefix(_PREFIX)
        if match := _FACTOR.fullmatch(bare):
            kind = match[2] or (match[3] and f"embedding_{match[3]}") or "bias"
            parts.setdefault(match[1], {})[kind] = info
        elif replaced.setdefault(_WRAPPERS.sub("", bare), info) is not info:
            message = f"{path} holds two tensors for {_WRAPPERS.sub('', bare)!r}"
            raise InputError(message, hint=_AGAIN)
    return {module: _pair(path, module, found) for module, found in parts.items()}, replaced


def _pair(path: Path, module: str, found: Mapping[str, TensorInfo]) -> Factors:
    for is_embedding, a, b in ((False, "A", "B"), (True, "embedding_A", "embedding_B")):
        if found.keys() - {"bias"} == {a, b}:
            return Factors(
                a=found[a], b=found[b], is_embedding=is_embedding, bias=found.get("bias")
            )
    told = ", ".join(f"lora_{kind}" for kind in sorted(found))
    message = f"{path} holds {told} of {module!r}; expected a pair, lora_A and lora_B"
    raise InputError(message, hint=f"the adapter is incomplete: {_AGAIN}")
