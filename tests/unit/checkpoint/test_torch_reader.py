import json
import os
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from neuronc.checkpoint.blocks import RangeReader
from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    return tmp_path


def _save(folder: Path, state: object, name: str = "pytorch_model.bin", **options: Any) -> Path:
    torch.save(state, folder / name, **options)
    return folder / name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_values_of_a_torch_file_come_back_bit_for_bit(folder: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    _save(folder, {"w": tensor, "t": tensor.T, "scalar": tensor[0, 1]})
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.tensors["t"].shape == (3, 2)
    for name, expected in (("w", tensor), ("t", tensor.T), ("scalar", tensor[0, 1])):
        found = checkpoint.reader.read(name)
        assert found.shape == tuple(expected.shape)
        assert np.array_equal(found.astype(np.float64), expected.double().numpy())


def test_bf16_comes_as_the_dtype_of_ml_dtypes(folder: Path) -> None:
    _save(folder, {"w": torch.ones(2, dtype=torch.bfloat16)})
    assert open_checkpoint(str(folder)).reader.read("w").dtype == ml_dtypes.bfloat16


def test_an_array_read_is_not_shared_with_the_file(folder: Path) -> None:
    _save(folder, {"w": torch.zeros(2)})
    reader = open_checkpoint(str(folder)).reader
    reader.read("w")[:] = 1
    assert not reader.read("w").any()


def test_a_file_is_mapped_no_longer_than_a_tensor_is_read(folder: Path) -> None:
    path = _save(folder, {"w": torch.arange(5000.0)})
    reader = open_checkpoint(str(folder)).reader
    assert reader.read("w")[-1] == 4999
    assert str(path) not in Path("/proc/self/maps").read_text(), "it counts as our memory"


@pytest.mark.parametrize("start", [0, 1, 3])
def test_rows_are_read_of_any_order_in_the_file(folder: Path, start: int) -> None:
    whole = torch.arange(60.0).reshape(3, 4, 5)
    views = {"plain": whole, "turned": whole.permute(2, 0, 1), "part": whole[:, 1:, ::2]}
    _save(folder, views)
    reader = open_checkpoint(str(folder)).reader
    assert isinstance(reader, RangeReader)
    for name, view in views.items():
        found = reader.read_range(name, start, len(view))
        assert np.array_equal(found, view[start:].numpy()), name


def test_a_file_cut_after_it_was_opened_is_refused(folder: Path) -> None:
    path = _save(folder, {"w": torch.zeros(5000)})
    reader = open_checkpoint(str(folder)).reader
    os.truncate(path, 5000)
    with pytest.raises(InputError, match=r"pytorch_model\.bin became shorter"):
        reader.read("w")


def test_parts_of_an_index_are_read(folder: Path) -> None:
    _save(folder, {"a": torch.ones(2)}, "pytorch_model-1.bin")
    _save(folder, {"b": torch.nn.Parameter(torch.zeros(3))}, "pytorch_model-2.bin")
    weight_map = {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = open_checkpoint(str(folder))
    assert list(checkpoint.tensors) == ["a", "b"]
    assert checkpoint.reader.read("b").shape == (3,)


class _Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("function", [os.system, "".join, slice])
def test_a_refused_pickle_is_told_by_what_it_holds(folder: Path, function: object) -> None:
    _save(folder, {"w": function})
    with pytest.raises(InputError, match=r"(?i)of plain tensors: unsupported \w+") as caught:
        open_checkpoint(str(folder))
    assert "weights_only" not in caught.value.message, "no advice to unpickle it after all"
    assert "Please" not in caught.value.message


def test_a_malicious_pickle_is_refused_and_runs_nothing(folder: Path) -> None:
    trace = folder / "was_here"
    path = _save(folder, {"w": _Bomb(trace)})
    with pytest.raises(InputError, match=r"pytorch_model\.bin is not a file of plain tensors"):
        open_checkpoint(str(folder))
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the pickle of this test does no harm at all"


def test_a_bare_pickle_is_refused_and_runs_nothing(folder: Path) -> None:
    trace = folder / "was_here"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(trace)))
    with pytest.raises(InputError, match="not a file of plain tensors"):
        open_checkpoint(str(folder))
    assert not trace.exists()


@pytest.mark.parametrize(
    "state",
    [
        {"model": {"w": torch.zeros(2)}},
        [torch.zeros(2)],
        {3: torch.zeros(2)},
        {"w": torch.zeros(2, device="meta")},
        {"w": torch.eye(2).to_sparse()},
    ],
)
def test_anything_but_dense_tensors_by_name_is_refused(folder: Path, state: object) -> None:
    _save(folder, state)
    with pytest.raises(InputError, match=r"pytorch_model\.bin (holds something else|is not)"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_a_truncated_torch_file_is_refused_by_name(folder: Path, kept: int) -> None:
    path = _save(folder, {"w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"pytorch_model\.bin"):
        open_checkpoint(str(folder))


def test_an_unknown_dtype_is_refused_by_tensor(folder: Path) -> None:
    _save(folder, {"w": torch.zeros(2, dtype=torch.complex64)})
    with pytest.raises(InputError, match="tensor 'w' has dtype 'complex64'"):
        open_checkpoint(str(folder))


def test_an_unknown_tensor_is_refused_with_the_nearest_name(folder: Path) -> None:
    _save(folder, {"model.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"'model.wait'; did you mean 'model.weight'"):
        open_checkpoint(str(folder)).reader.read("model.wait")
