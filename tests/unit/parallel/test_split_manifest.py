import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuronc.errors import InputError
from neuronc.parallel.split_manifest import check_files, read_split_manifest
from tests.unit.parallel.splitting import split


def damage(folder: Path, **fields: Any) -> None:
    path = folder / "split.json"
    data = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"split_format": 1}, "has format 1; this neuronc reads 2"),
        ({"split_format": None}, "has format None"),
        ({"tensors": None}, "is damaged: KeyError 'tensors'"),
        ({"tensors": {"w": 3}}, "is damaged: TypeError"),
        ({"tensors": []}, "is damaged: ValueError no tensors"),
        ({"tp": "many"}, "is damaged: ValueError"),
        ({"tp": 3}, "is damaged: tp=3, but it does not list rank 2's weights"),
        ({"tp": 2.0}, "is damaged: ValueError 2.0 is not a count"),
        ({"tp": float("inf")}, "is damaged: ValueError inf is not a count"),
        ({"dtype": "f12"}, "is damaged: KeyError 'f12'"),
        ({"files": [{"path": "x"}]}, "is damaged: KeyError 'size_bytes'"),
    ],
)
def test_a_damaged_manifest_is_refused(
    tiny_llama: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    split(tiny_llama, tmp_path / "out")
    damage(tmp_path / "out", **fields)

    with pytest.raises(InputError, match=message):
        read_split_manifest(tmp_path / "out")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "made up"), ("shape", [-1, 2]), ("dim", "x"), ("dim", 7), ("ranks", []),
        ("ranks", [[[-5, 1_000_000_000]]] * 2), ("ranks", [[[0, 1]], [[0, 2]]]),
        ("ranks", [[["0", 1]]] * 2), ("ranks", [[[0, 1.0]]] * 2), ("shape", [10**12, 36]),
        ("ranks", [[[0, 40]], [[56, 40]]]),
    ],
)  # fmt: skip
def test_a_layout_that_cannot_be_is_refused(
    tiny_llama: Path, tmp_path: Path, field: str, value: object
) -> None:
    split(tiny_llama, tmp_path / "out", tp=2)
    tensors = json.loads((tmp_path / "out" / "split.json").read_text())["tensors"]
    name = next(n for n, tensor in tensors.items() if tensor["role"] == "column")
    tensors[name][field] = value
    damage(tmp_path / "out", tensors=tensors)

    with pytest.raises(InputError, match=rf"is damaged: tensor '{name}' is laid out as"):
        read_split_manifest(tmp_path / "out")


@pytest.mark.parametrize("field", ["shape", "origins"])
def test_a_text_in_a_shape_is_not_multiplied(tiny_llama: Path, tmp_path: Path, field: str) -> None:
    split(tiny_llama, tmp_path / "out")
    tensors = json.loads((tmp_path / "out" / "split.json").read_text())["tensors"]
    long = ["row", 2**31]  # 6 GB of text
    next(iter(tensors.values()))[field] = long if field == "shape" else [["w", "f32", long]]
    damage(tmp_path / "out", tensors=tensors)
    with pytest.raises(InputError, match=r"shape \['row', 2147483648\] is no tensor's"):
        read_split_manifest(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)

    with pytest.raises(InputError, match=r"split\.json"):
        read_split_manifest(tmp_path)


def test_a_folder_without_manifest_is_no_split_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a split folder: it has no split\.json"):
        read_split_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"expected \d+ bytes, found"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"),
            "digest mismatch, expected sha256",
        ),
    ],
    ids=["missing", "longer", "one byte"],
)
def test_a_changed_file_is_refused_by_name(
    tiny_llama: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    manifest = split(tiny_llama, tmp_path / "out")
    change(tmp_path / "out" / "rank-1.safetensors")

    with pytest.raises(InputError, match=rf"rank-1\.safetensors.*{message}"):
        check_files(tmp_path / "out", manifest.files)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "a\0b"])
def test_a_listed_path_outside_the_folder_is_never_read(
    tiny_llama: Path, tmp_path: Path, path: str
) -> None:
    out_dir = tmp_path / "out"
    split(tiny_llama, out_dir)
    (tmp_path / "secret").write_text("secret")
    (out_dir / "link").symlink_to(tmp_path / "secret")
    listed = {"path": path, "size_bytes": 6, "sha256": ""}
    damage(out_dir, files=[*json.loads((out_dir / "split.json").read_text())["files"], listed])

    with pytest.raises(InputError, match=r"outside the folder|is missing"):
        check_files(out_dir, read_split_manifest(out_dir).files)
