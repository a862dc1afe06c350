"""Headers and small files that somebody made to break a reader: each is refused, and soon."""

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.folder import open_weights
from neuronc.checkpoint.gguf_header import read_gguf_header
from neuronc.checkpoint.layouts.transformers_neuronx import MAP_FILE, open_parameter_files
from neuronc.checkpoint.paths import contained_file, read_json_object, writing
from neuronc.checkpoint.safetensors_header import parse_safetensors_header
from neuronc.checkpoint.safetensors_reader import read_safetensors_header
from neuronc.errors import InputError, PlanError
from tests.unit.checkpoint.hostile import JSON_VALUES, QUICK, damaged, refuse_or_accept


def safetensors_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parse(raw: bytes) -> Any:
    return parse_safetensors_header("x", len(raw), lambda start, stop: raw[start:stop])


@QUICK
@given(st.data())
def test_a_damaged_safetensors_header_ends_in_no_traceback(data: st.DataObject) -> None:
    raw = save({"a": np.zeros((2, 3), np.float32), "b": np.zeros((), np.float16)})
    refuse_or_accept(lambda: parse(damaged(data, raw)))


@QUICK
@given(JSON_VALUES, JSON_VALUES, JSON_VALUES)
def test_any_values_in_a_safetensors_header_end_in_no_traceback(
    shape: object, dtype: object, offsets: object
) -> None:
    for fields in (
        {"shape": shape, "dtype": "F32", "data_offsets": [0, 8]},
        {"shape": [2], "dtype": dtype, "data_offsets": [0, 8]},
        {"shape": [2], "dtype": "F32", "data_offsets": offsets},
        shape,
    ):
        refuse_or_accept(lambda fields=fields: parse(safetensors_of({"a": fields}, bytes(8))))  # type: ignore[misc]


@pytest.mark.parametrize(
    "shape",
    [
        [2**63], [2**62, 2], [0, 2**62, 2**62], [10**4000] * 2, [1] * 33, [9] * 300_000,
        [0] * 40, [10**4000] * 1000,
    ],
)  # fmt: skip
def test_a_shape_that_no_memory_can_address_is_refused_at_once(shape: list[int]) -> None:
    with pytest.raises(InputError, match="tensor 'a'") as caught:
        parse(safetensors_of({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))
    assert len(caught.value.message) < 500


def test_nesting_at_the_limit_of_the_parser_is_refused(tmp_path: Path) -> None:
    for depth in range(900, 1010):  # some are parsed, but too deep to be shown
        text = b'{"a": ' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(InputError):
            parse(safetensors_of(text))


def test_a_tensor_of_no_rows_can_be_read(write_safetensors: Callable[..., Path]) -> None:
    path = write_safetensors({"a": {"dtype": "F32", "shape": [0, 7], "data_offsets": [0, 0]}})
    (path.parent / "config.json").write_text('{"model_type": "llama"}')
    assert open_checkpoint(str(path.parent)).reader.read("a").shape == (0, 7)


PIPES: dict[str, Callable[[Path], object]] = {
    "safetensors": read_safetensors_header,
    "gguf": read_gguf_header,
    "json": read_json_object,
    "digest": sha256_file,
}


@pytest.mark.parametrize("kind", PIPES)
@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(InputError, match="not a plain file"):
        PIPES[kind](tmp_path / "x")


@pytest.mark.parametrize("kind", PIPES)
@pytest.mark.timeout(20)
def test_a_device_without_end_is_not_read(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="not a plain file"):
        PIPES[kind](Path("/dev/zero"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.timeout(20)
def test_a_checkpoint_with_a_pipe_or_folder_for_a_file_is_refused(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    for other in (name, "model.safetensors"):
        (folder / other).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(InputError):
        open_checkpoint(str(folder))


LIMIT = """
import resource, sys
from pathlib import Path
from neuronc.checkpoint import gguf_header, paths, safetensors_reader
from neuronc.errors import InputError, PlanError
kind, path = sys.argv[1], Path(sys.argv[2])
read = {
    "gguf": gguf_header.read_gguf_header,
    "json": paths.read_json_object,
    "safetensors": safetensors_reader.read_safetensors_header,
}[kind]
resource.setrlimit(resource.RLIMIT_DATA, (700 << 20, 700 << 20))
try:
    read(path)
except InputError as error:
    print(error)
"""


def _sparse(path: Path, start: bytes, size_bytes: int) -> Path:
    path.write_bytes(start)
    os.truncate(path, size_bytes)
    return path


def _gguf(pair: bytes) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + pair


@pytest.mark.parametrize(
    ("kind", "start", "told"),
    [
        ("json", b"{", "has more than"),
        ("safetensors", struct.pack("<Q", 99_000_000), "not valid JSON"),
        ("gguf", _gguf(struct.pack("<IIQ", 9, 8, 2**23)), "has arrays of"),
        ("gguf", _gguf(struct.pack("<IIQ", 9, 0, 2**33)), "has a header of more than"),
        ("gguf", _gguf(struct.pack("<IQ", 8, 2**33)), "has a header of more than"),
        ("gguf", _gguf(struct.pack("<IIQ", 9, 9, 2**60)), "is truncated"),
    ],
)
@pytest.mark.timeout(60)
def test_a_hole_of_many_gigabytes_is_neither_read_nor_walked_over(
    tmp_path: Path, kind: str, start: bytes, told: str
) -> None:
    path = _sparse(tmp_path / "x", start, 2**40)
    if kind == "safetensors":
        os.truncate(path, 99_000_008)
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, kind, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_a_file_name_that_no_system_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long for a file name"):
        contained_file(tmp_path, "ü" * 200)
    index = {"weight_map": {"a": "x" * 300}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"index\.json names .* too long for a file name"):
        open_weights(tmp_path)


@QUICK
@given(st.data())
def test_a_damaged_index_ends_in_no_traceback(sharded_folder: Path, data: st.DataObject) -> None:
    path = sharded_folder / "model.safetensors.index.json"
    whole = {"weight_map": {name: f"model-0000{n}-of-00002.safetensors" for n, name in ((1, "a"),)}}
    path.write_bytes(damaged(data, json.dumps(whole).encode()))
    refuse_or_accept(lambda: open_weights(sharded_folder))


@QUICK
@given(JSON_VALUES)
def test_any_index_ends_in_no_traceback(sharded_folder: Path, value: object) -> None:
    path = sharded_folder / "model.safetensors.index.json"
    for found in (value, {"weight_map": value}, {"weight_map": {"model.a.weight": value}}):
        path.write_text(json.dumps(found))
        refuse_or_accept(lambda: open_weights(sharded_folder))


@QUICK
@given(JSON_VALUES)
def test_any_map_of_parameter_files_ends_in_no_traceback(tmp_path: Path, value: object) -> None:
    for found in (value, {"a": value}, {"a": "p0.a", "b": value}):
        (tmp_path / MAP_FILE).write_text(json.dumps(found))
        refuse_or_accept(lambda: open_parameter_files(tmp_path))


@QUICK
@given(st.data())
def test_a_damaged_gguf_header_ends_in_no_traceback(
    write_gguf: Callable[..., Path], tmp_path: Path, data: st.DataObject
) -> None:
    whole = tmp_path / "llama.gguf"
    raw = (whole if whole.exists() else write_gguf()).read_bytes()
    (tmp_path / "damaged.gguf").write_bytes(damaged(data, raw[:3000]) + raw[3000:9000])
    refuse_or_accept(lambda: read_gguf_header(tmp_path / "damaged.gguf"))


def test_a_file_larger_than_its_file_system_allows_is_a_plan_error(tmp_path: Path) -> None:
    with (
        pytest.raises(PlanError, match="larger than the file system") as caught,
        writing(tmp_path / "x", needed_bytes=5),
    ):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert "--max-file-size" in caught.value.hint
