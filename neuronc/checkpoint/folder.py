"""Opening a checkpoint folder: config.json, the weight files, and what lies beside them."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TypeVar

from neuronc.checkpoint.layouts.transformers_neuronx import open_parameter_files
from neuronc.checkpoint.paths import contained_file, read_json_object
from neuronc.checkpoint.safetensors_reader import SafetensorsReader, read_safetensors_header
from neuronc.checkpoint.tensor_info import TensorInfo, TensorReader
from neuronc.errors import InputError

SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"

COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that generating text needs besides config and weights; never code."""

Entry = TypeVar("Entry")
Part = TypeVar("Part")
_WEIGHTS = (SAFETENSORS, f"{SAFETENSORS}.index.json", TORCH, f"{TORCH}.index.json")


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a checkpoint folder.

    Raises:
        InputError: It is missing, is not a JSON object, or names no ``model_type``.
    """
    path = contained_file(folder, "config.json")
    if not path.is_file():
        message = f"{folder} has no config.json"
        hint = "pass the folder that holds config.json and the weights"
        if (folder / "weights" / "split.json").is_file():
            hint = f"it is an artifact of neuronc: pass {folder / 'weights'}, or --relink"
        raise InputError(message, hint=hint)
    config = read_json_object(path)
    if not isinstance(config.get("model_type"), str):
        message = f"{path} has model_type {config.get('model_type')!r}; expected a name as 'llama'"
        raise InputError(message, hint="use a checkpoint in the layout of transformers")
    return config


def find_companions(folder: Path) -> tuple[Path, ...]:
    """The tokenizer, generation and chat template files that ``folder`` has."""
    paths = (contained_file(folder, name) for name in COMPANIONS)
    return tuple(path for path in paths if path.is_file())


def has_weights(folder: Path) -> bool:
    """Whether ``folder`` has anything that `open_weights` would open."""
    return any((folder / name).exists() for name in _WEIGHTS)


def open_weights(folder: Path) -> tuple[dict[str, TensorInfo], TensorReader]:
    """Tensor infos in file order and their reader; safetensors where there is a choice.

    ``pytorch_model.bin`` may be a directory, as transformers-neuronx writes it.

    Raises:
        InputError: No weights, a damaged file, or an index that does not match its files.
    """
    for name, opener in ((SAFETENSORS, open_safetensors), (TORCH, open_torch)):
        single, index = (contained_file(folder, part) for part in (name, f"{name}.index.json"))
        if name == TORCH and single.is_dir():
            return open_parameter_files(single)
        if single.is_file():
            return opener(folder, {single: None})
        if index.is_file():
            return opener(folder, _read_index(folder, index))
    message = f"{folder} has no weights: expected {SAFETENSORS} or {TORCH}, or an index of parts"
    hint = "download the checkpoint again, or pass the right folder"
    if (folder / "rank-0.safetensors").is_file():
        hint = "it is a split folder: neuronc compile takes it, split wants the checkpoint itself"
    raise InputError(message, hint=hint)


def open_safetensors(
    folder: Path, files: Mapping[Path, set[str] | None]
) -> tuple[dict[str, TensorInfo], TensorReader]:
    """Open safetensors ``files`` of ``folder``, each with the names it must hold (None: any).

    Raises:
        InputError: a damaged file, one without tensors, or other names.
    """
    stored = merge_parts(files, read_safetensors_header)
    infos = {name: entry.info for name, entry in stored.items()}
    return infos, SafetensorsReader(folder=folder, stored=stored)


def open_torch(
    folder: Path, files: Mapping[Path, set[str] | None]
) -> tuple[dict[str, TensorInfo], TensorReader]:
    """The same of files made by ``torch.save``, by a restricted unpickler; imports torch."""
    from neuronc.checkpoint.torch_reader import TorchReader, load_torch_file

    stored = merge_parts(files, load_torch_file)
    infos = {name: tensor.info for name, tensor in stored.items()}
    return infos, TorchReader(folder=folder, stored=stored)


def merge_parts(
    files: Mapping[Part, set[str] | None], load: Callable[[Part], dict[str, Entry]]
) -> dict[str, Entry]:
    """Entries of all files; each file must hold exactly the names given for it (None: any).

    Raises:
        InputError: a file holds others, or what ``load`` refuses.
    """
    merged: dict[str, Entry] = {}
    for path, expected in files.items():
        found = load(path)
        if expected is not None and found.keys() != expected:
            raise _index_mismatch(path, expected, found.keys())
        merged.update(found)
    if not merged:
        message = f"{', '.join(str(path) for path in files)} holds no tensors"
        raise InputError(message, hint="download the checkpoint again")
    return merged


def _index_mismatch(
    path: object, expected: AbstractSet[str], found: AbstractSet[str]
) -> InputError:
    if extra := found - expected:
        what = f"{path} holds tensor {min(extra)!r}, which the index does not place there"
    else:
        what = f"{path} lacks tensor {min(expected - found)!r}, which the index places there"
    return InputError(what, hint="download the index and all parts again, from one revision")


def _read_index(folder: Path, index: Path) -> dict[Path, set[str] | None]:
    """The parts in name order, each with the tensors it must hold."""
    parts: dict[Path, set[str] | None] = {}
    for file, names in read_index(index).items():
        path = contained_file(folder, file, named_by=str(index))
        if not path.is_file():
            message = f"{index} names {file!r}, which is not in {folder}"
            raise InputError(message, hint="download the missing part")
        parts[path] = names
    return parts


def read_index(index: Path) -> dict[str, set[str]]:
    """The file names that an index has, sorted, each with its tensors; the names are not checked.

    Raises:
        InputError: there is no map from tensors to file names in it.
    """
    weight_map = read_json_object(index).get("weight_map")
    is_map = isinstance(weight_map, dict) and all(isinstance(f, str) for f in weight_map.values())
    if not weight_map or not is_map:
        message = f"{index} has no usable weight_map; expected an object from tensor to file name"
        raise InputError(message, hint="download the index again")
    parts: dict[str, set[str]] = {file: set() for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        parts[file].add(name)
    return parts
