import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from neuronc import dtypes
from neuronc.checkpoint import safetensors_writer
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.safetensors_reader import read_safetensors_header
from neuronc.checkpoint.safetensors_writer import Begun, SafetensorsWriter
from neuronc.checkpoint.tensor_info import Place, TensorInfo
from neuronc.errors import InputError, PlanError, UsageError

A = TensorInfo(name="a", shape=(2, 3), dtype=dtypes.DTYPES["bf16"])
B = TensorInfo(name="b", shape=(5,), dtype=dtypes.DTYPES["f32"])
A_VALUES = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
B_VALUES = np.linspace(0, 1, 5, dtype=np.float32)


def _write(path: Path, **options: Any) -> Any:
    with SafetensorsWriter(path, [A, B], **options) as writer:
        writer.write("a", A_VALUES)
        writer.write("b", B_VALUES)
        return writer.close()


def _write_parts(writer: SafetensorsWriter, name: str, parts: list[Any]) -> None:
    for part in parts:
        writer.append(name, part)
    writer.finish(name)


def test_the_safetensors_library_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "rank.safetensors"
    _write(path, metadata={"rank": "0"})
    found = load_file(path)
    assert found["a"].dtype == ml_dtypes.bfloat16
    assert found["a"].tobytes() == A_VALUES.tobytes()
    assert found["b"].tobytes() == B_VALUES.tobytes()
    with safe_open(path, "np") as file:
        assert file.metadata() == {"rank": "0"}


def test_our_reader_finds_the_declared_infos_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rank.safetensors"
    _write(path)
    assert [stored.info for stored in read_safetensors_header(path).values()] == [A, B]


def test_the_written_file_is_reported_with_size_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "rank.safetensors"
    written = _write(path)
    assert written.name == "rank.safetensors"
    assert written.size_bytes == path.stat().st_size
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == sha256_file(path)


def test_the_values_start_at_a_multiple_of_eight_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rank.safetensors"
    _write(path)
    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    assert header_bytes % 8 == 0
    assert json.loads(path.read_bytes()[8 : 8 + header_bytes])["a"]["data_offsets"] == [0, 12]


@pytest.mark.parametrize("data_begin", [0, 8, 136, 4088])
def test_the_values_begin_where_they_are_told_to(tmp_path: Path, data_begin: int) -> None:
    path = tmp_path / "rank.safetensors"
    written = _write(path, data_begin=data_begin)
    header_bytes = int.from_bytes(path.read_bytes()[:8], "little")
    assert (8 + header_bytes) % 4096 == data_begin
    assert load_file(path)["b"].tobytes() == B_VALUES.tobytes()
    assert written.size_bytes == path.stat().st_size
    assert written.sha256 == sha256_file(path)


def test_a_tensor_may_come_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "rank.safetensors"
    with SafetensorsWriter(path, [A, B]) as writer:
        _write_parts(writer, "a", [A_VALUES[:1], A_VALUES[1:]])
        _write_parts(writer, "b", [B_VALUES])
    assert load_file(path)["a"].tobytes() == A_VALUES.tobytes()


def test_a_slice_with_strides_is_written_as_its_values(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    info = TensorInfo(name="w", shape=(3, 2), dtype=dtypes.DTYPES["f32"])
    with SafetensorsWriter(tmp_path / "w.safetensors", [info]) as writer:
        writer.write("w", whole[:, 2:])
    assert np.array_equal(load_file(tmp_path / "w.safetensors")["w"], whole[:, 2:])


def test_scalars_and_empty_tensors_can_be_written(tmp_path: Path) -> None:
    f32 = dtypes.DTYPES["f32"]
    infos = [
        TensorInfo(name="one", shape=(), dtype=f32),
        TensorInfo(name="no", shape=(0, 2), dtype=f32),
    ]
    with SafetensorsWriter(tmp_path / "w.safetensors", infos) as writer:
        writer.write("one", np.array(3, np.float32))
        writer.write("no", np.zeros((0, 2), np.float32))
    assert load_file(tmp_path / "w.safetensors")["one"] == 3


def test_a_tensor_out_of_turn_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="'b' is out of turn: expected 'a'"),
        SafetensorsWriter(tmp_path / "w.safetensors", [A, B]) as writer,
    ):
        writer.write("b", B_VALUES)


@pytest.mark.parametrize("wrong", [A_VALUES.T, A_VALUES.astype(np.float32), A_VALUES[:1]])
def test_another_shape_or_dtype_than_declared_is_refused(tmp_path: Path, wrong: Any) -> None:
    with (
        pytest.raises(ValueError, match="tensor 'a' has"),
        SafetensorsWriter(tmp_path / "w.safetensors", [A]) as writer,
    ):
        writer.write("a", wrong)


@pytest.mark.parametrize("parts", [[A_VALUES[:1]], [A_VALUES, A_VALUES[:1]], [A_VALUES[:, :2]]])
def test_parts_that_do_not_add_up_are_refused(tmp_path: Path, parts: list[Any]) -> None:
    with (
        pytest.raises(ValueError, match="tensor 'a'"),
        SafetensorsWriter(tmp_path / "w.safetensors", [A]) as writer,
    ):
        _write_parts(writer, "a", parts)


def test_a_missing_tensor_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="1 tensors not written, next 'b'"),
        SafetensorsWriter(tmp_path / "w.safetensors", [A, B]) as writer,
    ):
        writer.write("a", A_VALUES)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        SafetensorsWriter(tmp_path / "w.safetensors", [A, B]),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_file_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with SafetensorsWriter(path, [A]) as writer:
        writer.write("a", A_VALUES)
        assert not path.exists()
        writer.close()
        assert path.exists()


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two tensors are named 'a'"):
        SafetensorsWriter(tmp_path / "w.safetensors", [A, A])


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        SafetensorsWriter(path, [A])
    assert path.read_text() == "mine"


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", {tmp_path: usage}.__getitem__)
    with pytest.raises(
        PlanError, match=r"no room for .*w\.safetensors: \d+ bytes needed, 10 bytes"
    ):
        SafetensorsWriter(tmp_path / "w.safetensors", [A])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_writing_is_a_plan_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PlanError, match="bytes needed"):
        _write(tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, mode: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(UsageError, match="Read-only file system") as caught:
        SafetensorsWriter(tmp_path / "w.safetensors", [A])
    assert "output folder" in caught.value.hint


def test_a_missing_output_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        SafetensorsWriter(tmp_path / "absent" / "w.safetensors", [A])


def test_the_digest_of_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        sha256_file(tmp_path / "absent")


def _write_from(path: Path, source: Path, lies: bytes) -> bytes:
    """Write B's values from ``source``, where ``lies`` lie before them."""
    source.write_bytes(lies + B_VALUES.tobytes())
    with SafetensorsWriter(path, [B]) as writer:
        writer.append("b", B_VALUES, Place(path=source, offset=len(lies)))
        writer.finish("b")
    return load_file(path)["b"].tobytes()


def test_bytes_that_lie_in_a_file_are_copied_from_there(tmp_path: Path) -> None:
    found = _write_from(tmp_path / "w.safetensors", tmp_path / "source", b"before")
    assert found == B_VALUES.tobytes()


def test_what_is_no_longer_in_that_file_is_written_from_memory(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(B_VALUES.tobytes()[:7])
    with SafetensorsWriter(tmp_path / "w.safetensors", [B]) as writer:
        writer.append("b", B_VALUES, Place(path=tmp_path / "source", offset=0))
        writer.finish("b")
    assert load_file(tmp_path / "w.safetensors")["b"].tobytes() == B_VALUES.tobytes()


def test_a_disk_that_fills_up_while_copying_is_a_plan_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PlanError, match="bytes needed"):
        _write_from(tmp_path / "w.safetensors", tmp_path / "source", b"before")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def _begin(path: Path, kept: int) -> None:
    """Write ``kept`` tensors and be interrupted by the number of bytes that are to be there."""
    with SafetensorsWriter(path, [A, B], keep_part=True) as writer:
        for name, values in [("a", A_VALUES), ("b", B_VALUES)][:kept]:
            writer.write(name, values)
        raise KeyboardInterrupt(writer.so_far().size_bytes)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_large_file_is_gone_on_with_at_any_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(safetensors_writer, "DIRECT_BYTES", 0)
    whole = _write(tmp_path / "whole.safetensors")
    path, part = tmp_path / "w.safetensors", tmp_path / "w.safetensors.part"
    with pytest.raises(KeyboardInterrupt) as interrupted:
        _begin(path, kept)
    begun = part.read_bytes()
    assert interrupted.value.args == (len(begun),)
    part.write_bytes(begun + b"to be cut off again")

    again = Begun(num_tensors=kept, sha256=hashlib.sha256(begun))
    with SafetensorsWriter(path, [A, B], begun=again) as writer:
        for name, values in [("a", A_VALUES), ("b", B_VALUES)][kept:]:
            writer.write(name, values)

    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert writer.close().sha256 == whole.sha256
