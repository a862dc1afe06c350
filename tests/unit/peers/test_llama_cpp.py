"""The GGUF file for llama.cpp: read back by neuronc's own reader, it is the checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronc.checkpoint.checkpoint import open_checkpoint
from tests.benchmarks.peers.catalog import ENGINES
from tests.benchmarks.peers.process import Setting, load_file
from tests.tiny_models import make_checkpoint

ENGINE = load_file(ENGINES / "llama_cpp.py")


@pytest.mark.parametrize(("dtype", "matrices"), [("f32", "F32"), ("bf16", "BF16")])
def test_every_weight_is_the_same(tmp_path: Path, dtype: str, matrices: str) -> None:
    model = make_checkpoint(tmp_path / "model", dtype=dtype, shards=2)
    setting = Setting(dtype=dtype, prompt_tokens=4, new_tokens=4)
    ENGINE.prepare(model, tmp_path / "made", setting)
    file = tmp_path / "made" / "model.gguf"
    given, made = (open_checkpoint(str(path)) for path in (model, file))
    names = set(given.tensors)
    assert len(names) > 10
    for name in names:
        assert np.array_equal(bits(given, name), bits(made, name)), name
    assert stored_types(file, ndim=2) == {matrices}
    assert stored_types(file, ndim=1) == {"F32"}


def bits(checkpoint: Any, name: str) -> Any:
    return np.asarray(checkpoint.reader.read(name), dtype=np.float32).view(np.uint32)


def stored_types(file: Path, ndim: int) -> set[str]:
    import gguf

    tensors = gguf.GGUFReader(file).tensors
    return {tensor.tensor_type.name for tensor in tensors if len(tensor.shape) == ndim}


def test_neighbours_are_what_the_halves_of_a_head_were() -> None:
    rows = np.arange(8)[:, None]
    found = ENGINE.halves_to_pairs(rows, heads=2)
    assert found.ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
