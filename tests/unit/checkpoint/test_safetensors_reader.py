import json
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.checkpoint.safetensors_reader import SafetensorsReader, read_safetensors_header
from neuronc.errors import InputError

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _reader(path: Path) -> SafetensorsReader:
    return SafetensorsReader(folder=path.parent, stored=read_safetensors_header(path))


@pytest.mark.parametrize(
    "dtype", [np.float32, ml_dtypes.bfloat16, np.float16, np.int64, np.uint8, np.bool_]
)
def test_values_of_every_dtype_come_back_bit_for_bit(tmp_path: Path, dtype: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    save_file({"odd": np.zeros(1, np.uint8), "w": array}, tmp_path / "m.safetensors")
    found = _reader(tmp_path / "m.safetensors").read("w")
    assert found.dtype == array.dtype
    assert found.shape == (2, 3)
    assert found.tobytes() == array.tobytes()


def test_reading_maps_the_file_and_does_not_copy(folder: Path) -> None:
    found = _reader(folder / "model.safetensors").read("model.a.weight")
    base: Any = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    assert not found.flags.writeable


def test_scalars_and_empty_tensors_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"empty": np.zeros((0, 3), np.float32), "one": np.array(7, np.int32)}, path)
    reader = _reader(path)
    assert reader.read("empty").shape == (0, 3)
    assert reader.read("one") == 7


def test_an_unknown_tensor_is_refused_with_the_nearest_name(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"no tensor 'model.a.wait'; did you mean 'model.a.weight'"
    ):
        _reader(folder / "model.safetensors").read("model.a.wait")


def test_tensors_are_listed_in_the_order_of_their_bytes(
    write_safetensors: Callable[..., Path],
) -> None:
    late = {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}
    path = write_safetensors({"late": late, "early": F32, "__metadata__": {"a": "b"}}, bytes(12))
    assert list(read_safetensors_header(path)) == ["early", "late"]


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1])
def test_a_truncated_safetensors_file_is_refused_by_name(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"model\.safetensors") as caught:
        read_safetensors_header(path)
    assert "download" in caught.value.hint


def test_bytes_behind_the_last_tensor_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match="too long: expected"):
        read_safetensors_header(path)


def test_a_file_cut_after_it_was_opened_is_refused_when_read(folder: Path) -> None:
    path = folder / "model.safetensors"
    reader = _reader(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="became shorter after it was opened"):
        reader.read("model.b.weight")


def test_a_file_removed_after_it_was_opened_is_refused_when_read(folder: Path) -> None:
    reader = _reader(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read .*model\.safetensors"):
        reader.read("model.b.weight")


def test_a_header_longer_than_the_file_is_refused(write_safetensors: Callable[..., Path]) -> None:
    path = write_safetensors({}, length=1000)
    with pytest.raises(InputError, match="header has 1000 bytes, but the whole file has 10"):
        read_safetensors_header(path)


def test_a_header_over_the_limit_of_the_format_is_refused(
    write_safetensors: Callable[..., Path],
) -> None:
    path = write_safetensors({}, length=2**63)
    with pytest.raises(InputError, match="the format allows 100000000"):
        read_safetensors_header(path)


@pytest.mark.parametrize(
    "text", [b"{", b"\xff\xfe{}", b"[1]", b"[" * 100_000, b'{"w": 1, "w": 2}', b"", b"9" * 5000]
)
def test_a_header_that_is_no_json_object_is_refused(
    write_safetensors: Callable[..., Path], text: bytes
) -> None:
    with pytest.raises(InputError, match="has a header"):
        read_safetensors_header(write_safetensors(text))


def test_a_name_that_occurs_twice_is_refused(write_safetensors: Callable[..., Path]) -> None:
    entry = json.dumps(F32)
    path = write_safetensors(f'{{"w": {entry}, "w": {entry}}}'.encode(), bytes(8))
    with pytest.raises(InputError, match="'w' occurs twice"):
        read_safetensors_header(path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [-2]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": "2"},
        {"data_offsets": [0]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": None},
    ],
)
def test_a_malformed_entry_is_refused_by_tensor_name(
    write_safetensors: Callable[..., Path], change: dict[str, object]
) -> None:
    path = write_safetensors({"w": F32 | change}, bytes(8))
    with pytest.raises(InputError, match="describes tensor 'w'"):
        read_safetensors_header(path)


@pytest.mark.parametrize("offsets", [[0, 4], [8, 0], [0, 2**60]])
def test_bytes_that_do_not_fit_the_shape_are_refused(
    write_safetensors: Callable[..., Path], offsets: list[int]
) -> None:
    path = write_safetensors({"w": F32 | {"data_offsets": offsets}}, bytes(8))
    with pytest.raises(InputError, match=r"its shape \[2\] of f32 needs 8"):
        read_safetensors_header(path)


@pytest.mark.parametrize(("begin", "fault"), [(4, "overlaps"), (12, "leaves a hole")])
def test_tensors_that_overlap_or_leave_holes_are_refused(
    write_safetensors: Callable[..., Path], begin: int, fault: str
) -> None:
    second = F32 | {"data_offsets": [begin, begin + 8]}
    path = write_safetensors({"a": F32, "b": second}, bytes(begin + 8))
    with pytest.raises(InputError, match=f"'b' at byte .* {fault}"):
        read_safetensors_header(path)


def test_an_unknown_dtype_is_refused_by_tensor_and_file(
    write_safetensors: Callable[..., Path],
) -> None:
    path = write_safetensors({"w": F32 | {"dtype": "F8_E5M2"}}, bytes(8))
    with pytest.raises(InputError, match=r"tensor 'w' of .*model\.safetensors has dtype 'F8_E5M2'"):
        read_safetensors_header(path)


def test_garbage_is_refused_and_never_crashes(tmp_path: Path) -> None:
    path = tmp_path / "garbage.safetensors"
    random = np.random.default_rng(0)
    for _ in range(300):
        length, size = (int(value) for value in random.integers(0, 200, 2))
        path.write_bytes(length.to_bytes(8, "little") + b"{" + random.bytes(size))
        with pytest.raises(InputError, match=r"garbage\.safetensors"):
            read_safetensors_header(path)
