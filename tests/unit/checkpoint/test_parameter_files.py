"""Split checkpoints of transformers-neuronx, whole and hostile; written here as that tool does."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.layouts.transformers_neuronx import MAX_MAP_BYTES, parameter_files
from neuronc.errors import InputError

A, B = "model.a.weight", "model.b.weight"
FILE_A, FILE_B = "p0.model.a.weight", "p1.model.b.weight"
MAP = "key_to_filename.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of two tensors; ``pytorch_model.bin`` is a directory."""
    place = tmp_path / "model"
    (place / "pytorch_model.bin").mkdir(parents=True)
    (place / "config.json").write_text('{"model_type": "llama"}')
    torch.save(torch.arange(6.0).reshape(2, 3), place / "pytorch_model.bin" / FILE_A)
    torch.save(torch.ones(4, dtype=torch.bfloat16), place / "pytorch_model.bin" / FILE_B)
    _write_map(place, {A: FILE_A, B: FILE_B})
    return place


def _write_map(folder: Path, names: object) -> None:
    (folder / "pytorch_model.bin" / MAP).write_text(json.dumps(names, indent=2))


def _refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        open_checkpoint(str(folder))
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_tensors_come_in_the_order_of_the_map(folder: Path) -> None:
    _write_map(folder, {B: FILE_B, A: FILE_A})
    checkpoint = open_checkpoint(str(folder))
    assert list(checkpoint.tensors) == [B, A]
    assert checkpoint.tensors[B].dtype.name == "bf16"
    assert np.array_equal(checkpoint.reader.read(A), np.arange(6.0).reshape(2, 3))


def test_a_parameter_object_is_a_tensor(folder: Path) -> None:
    torch.save(torch.nn.Parameter(torch.ones(2)), folder / "pytorch_model.bin" / FILE_A)
    assert open_checkpoint(str(folder)).reader.read(A).tolist() == [1.0, 1.0]


def test_safetensors_is_preferred_and_the_directory_to_an_index_of_parts(folder: Path) -> None:
    (folder / "pytorch_model.bin.index.json").write_text("not read")
    assert list(open_checkpoint(str(folder)).tensors) == [A, B]
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "gone"}}')
    _refused(folder, "names 'gone'")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("model.layers.0.weight", "p0.model.layers.0.weight"),
        (" lm head/weight ", "p0.lm_headweight"),
        ("a:b-c_d.é", "p0.ab-c_d.é"),
        ("../../etc/passwd", "p0.....etcpasswd"),
    ],
)
def test_file_names_are_formed_as_transformers_neuronx_forms_them(key: str, name: str) -> None:
    assert parameter_files([key]) == {key: name}


class _Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.trace}",))


def test_a_malicious_pickle_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    trace, path = tmp_path / "was_here", folder / "pytorch_model.bin" / FILE_B
    torch.save(_Bomb(trace), path)
    _refused(folder, f"{FILE_B} is not a file of plain tensors")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the pickle of this test does no harm at all"


@pytest.mark.parametrize(
    "content",
    [
        {"w": torch.zeros(2)},
        [torch.zeros(2)],
        3,
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
    ],
)
def test_a_file_of_anything_but_one_tensor_is_refused(folder: Path, content: object) -> None:
    torch.save(content, folder / "pytorch_model.bin" / FILE_A)
    _refused(folder, f"{FILE_A} (holds something else than one|is not a file)")


def test_a_small_file_may_not_stand_for_a_tensor_larger_than_memory(folder: Path) -> None:
    torch.save(torch.zeros(1).expand(10**12), folder / "pytorch_model.bin" / FILE_A)
    _refused(folder, f"{FILE_A} says it holds 4000000000000 bytes of values")


@pytest.mark.parametrize("kept", [0, 60, -30])
def test_a_truncated_file_is_refused_by_name(folder: Path, kept: int) -> None:
    path = folder / "pytorch_model.bin" / FILE_A
    path.write_bytes(path.read_bytes()[:kept])
    _refused(folder, FILE_A)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "", "sub/x", "a\0b", "a\\b"])
def test_a_name_that_leaves_the_directory_is_refused(folder: Path, name: str) -> None:
    torch.save(torch.ones(2), folder / "secret")
    _write_map(folder, {A: FILE_A, B: name})
    _refused(folder, f"{MAP} names .* expected a plain file name inside")


@pytest.mark.parametrize("inner", [FILE_B, MAP])
def test_a_link_out_of_the_directory_is_refused(folder: Path, tmp_path: Path, inner: str) -> None:
    path = folder / "pytorch_model.bin" / inner
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    _refused(folder, "a link to .*elsewhere")


def test_a_directory_that_is_a_link_out_of_the_folder_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "pytorch_model.bin").rename(tmp_path / "elsewhere")
    (folder / "pytorch_model.bin").symlink_to(tmp_path / "elsewhere")
    _refused(folder, "a link to .*elsewhere")


def _make_directory(directory: Path) -> None:
    (directory / FILE_B).unlink()
    (directory / FILE_B).mkdir()


CHANGES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda d: (d / FILE_B).unlink(), f"{FILE_B} is missing or no file; .*'{B}'"),
    "a directory": (_make_directory, f"{FILE_B} is missing or no file; .*'{B}'"),
    "extra": (lambda d: (d / "p2.c").write_bytes(b""), f"has 'p2.c', which {MAP} does not name"),
    "no map": (lambda d: (d / MAP).unlink(), f"pytorch_model.bin is a directory without {MAP}"),
    "random": (
        lambda d: (d / f"{FILE_B}.empty_json").write_text("{}"),
        rf"{FILE_B}\.empty_json stands for random weights",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_do_not_match_the_map_are_refused_by_name(folder: Path, change: str) -> None:
    apply, words = CHANGES[change]
    apply(folder / "pytorch_model.bin")
    _refused(folder, words)


def test_random_weights_named_by_the_map_are_refused(folder: Path) -> None:
    directory = folder / "pytorch_model.bin"
    (directory / FILE_B).rename(directory / f"{FILE_B}.empty_json")
    _write_map(folder, {A: FILE_A, B: f"{FILE_B}.empty_json"})
    _refused(folder, "stands for random weights")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([FILE_A], f"{MAP} holds a JSON list"),
        ({A: FILE_A, B: 3}, f"{MAP} gives '{B}' a int; expected a file name"),
        ({A: FILE_A, B: None}, f"{MAP} gives '{B}' a NoneType"),
        ({A: FILE_A, B: FILE_A}, f"{MAP} gives '{A}' and '{B}' the same file"),
        ({}, f"{MAP} names no tensors"),
        ({f"k{i}": f"p{i}.k{i}" for i in range(1_000_000)}, "p0.k0 is missing or no file"),
        ({f"k{i}": FILE_A for i in range(1_000_000)}, "'k0' and 'k1' the same file"),
    ],
    ids=["list", "number", "null", "twice", "empty", "million", "million times one"],
)
def test_a_map_that_is_none_is_refused(folder: Path, names: object, words: str) -> None:
    _write_map(folder, names)
    _refused(folder, words)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a": "\\ud800"}'])
def test_a_map_that_is_no_json_is_refused(folder: Path, text: str) -> None:
    (folder / "pytorch_model.bin" / MAP).write_text(text)
    _refused(folder, f"{MAP} is not valid JSON")


def test_a_map_too_large_to_be_one_is_not_read(folder: Path) -> None:
    with (folder / "pytorch_model.bin" / MAP).open("wb") as file:
        file.truncate(MAX_MAP_BYTES + 1)  # sparse: takes no room
    _refused(folder, re.escape(f"{MAP} has {MAX_MAP_BYTES + 1} bytes"))


def test_a_file_that_becomes_another_tensor_is_not_read(folder: Path) -> None:
    reader = open_checkpoint(str(folder)).reader
    torch.save(torch.ones(9), folder / "pytorch_model.bin" / FILE_A)
    with pytest.raises(InputError, match="became another tensor after it was opened"):
        reader.read(A)


def test_an_unknown_tensor_is_refused_with_the_nearest_name(folder: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{A}'"):
        open_checkpoint(str(folder)).reader.read("model.a.wait")
