"""One tiny checkpoint for all tests of a run, and copies of it with a fault."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file, save_file

from tests.tiny_models import make_checkpoint

if TYPE_CHECKING:
    import numpy as np


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied llama in f32; not to be changed."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def changed(tiny_llama: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of `tiny_llama` with tensors added, replaced or (None) dropped, and config edited."""

    def change(
        tensors: Mapping[str, "np.ndarray[Any, Any] | None"] | None = None, **config: Any
    ) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(tiny_llama, folder)
        merged = {**load_file(folder / "model.safetensors"), **(tensors or {})}
        kept = {name: array for name, array in merged.items() if array is not None}
        save_file(kept, folder / "model.safetensors")
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        return folder

    return change
