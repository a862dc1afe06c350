"""The split checkpoint of transformers-neuronx: a directory with one torch file per parameter.

``pytorch_model.bin/`` is a directory. ``key_to_filename.json`` in it maps each state-dict key to
``p{index}.{key}``, a file that ``torch.save`` made of that one tensor (transformers-neuronx,
``module.py``: ``save_pretrained_split``).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.checkpoint.paths import contained_file, read_json_object, reading
from neuronc.checkpoint.tensor_info import TensorInfo, no_such_tensor
from neuronc.errors import InputError

if TYPE_CHECKING:
    import numpy as np

MAP_FILE = "key_to_filename.json"
MAX_MAP_BYTES = 64_000_000
"""Several times what the map of the largest published models needs."""

_RANDOM = ".empty_json"
_AGAIN = "save the model again with save_pretrained_split, or copy the whole folder again"


def parameter_files(keys: Iterable[str]) -> dict[str, str]:
    """The file name of each state-dict key, as transformers-neuronx forms it."""
    return {key: f"p{index}.{_sanitised(key)}" for index, key in enumerate(keys)}


def _sanitised(key: str) -> str:
    return re.sub(r"[^-\w.]", "", key.strip().replace(" ", "_"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterFilesReader:
    """A `TensorReader` that opens a parameter's file when it is asked for."""

    folder: Path
    files: Mapping[str, Path]
    infos: Mapping[str, TensorInfo]

    def read(self, name: str) -> "np.ndarray[Any, Any]":
        """A fresh array.

        Raises:
            InputError: No such tensor, or its file changed after it was opened.
        """
        from neuronc.checkpoint.torch_reader import load_torch_tensor, tensor_info, to_array

        if name not in self.files:
            raise no_such_tensor(name, self.files, subject=self.folder)
        tensor = load_torch_tensor(self.files[name])
        if tensor_info(name, tensor) != self.infos[name]:
            message = f"{self.files[name]} became another tensor after it was opened"
            raise InputError(message, hint="leave the checkpoint alone while it is used")
        return to_array(name, tensor)


def open_parameter_files(folder: Path) -> tuple[dict[str, TensorInfo], ParameterFilesReader]:
    """Tensor infos in the order of the map, and their reader; ``folder`` is ``pytorch_model.bin``.

    Every file is opened for its shape and closed again, no values are read; imports torch.

    Raises:
        InputError: The map is not one from keys to files of ``folder``; a file is missing, is
            not named in it, is a random-weights marker, or holds anything but one dense tensor.
    """
    from neuronc.checkpoint.torch_reader import load_torch_tensor, tensor_info

    files = _find_files(folder)
    infos = {key: tensor_info(key, load_torch_tensor(path)) for key, path in files.items()}
    return infos, ParameterFilesReader(folder=folder, files=files, infos=infos)


def _find_files(folder: Path) -> dict[str, Path]:
    """The file of every key; the directory has just the files that the map names."""
    map_file = contained_file(folder, MAP_FILE)
    if not map_file.is_file():
        message = f"{folder} is a directory without {MAP_FILE}"
        raise InputError(message, hint=_AGAIN)
    names = _read_map(map_file)
    with reading(folder):
        present = {path.name for path in folder.iterdir()} - {MAP_FILE}
    if random := sorted(name for name in present if name.endswith(_RANDOM)):
        message = f"{folder / random[0]} stands for random weights; expected a trained tensor"
        raise InputError(message, hint="use the checkpoint with the real weights")
    files: dict[str, Path] = {}
    for key, name in names.items():
        files[key] = contained_file(folder, name, named_by=str(map_file))
        if not files[key].is_file():
            message = f"{files[key]} is missing or no file; expected tensor {key!r} in it"
            raise InputError(message, hint=_AGAIN)
    if extra := present.difference(names.values()):
        message = f"{folder} has {min(extra)!r}, which {MAP_FILE} does not name"
        raise InputError(message, hint="delete it if it is not part of the checkpoint")
    return files


def _read_map(path: Path) -> dict[str, str]:
    with reading(path):
        size_bytes = path.stat().st_size
    if size_bytes > MAX_MAP_BYTES:
        message = f"{path} has {size_bytes} bytes; expected at most {MAX_MAP_BYTES}"
        raise InputError(message, hint=_AGAIN)
    names = read_json_object(path)
    key_of: dict[str, str] = {}
    for key, name in names.items():
        if not isinstance(name, str):
            message = f"{path} gives {key!r} a {type(name).__name__}; expected a file name"
            raise InputError(message, hint=_AGAIN)
        if name in key_of:
            message = f"{path} gives {key_of[name]!r} and {key!r} the same file {name!r}"
            raise InputError(message, hint=_AGAIN)
        key_of[name] = key
    if not names:
        message = f"{path} names no tensors"
        raise InputError(message, hint=_AGAIN)
    return names
