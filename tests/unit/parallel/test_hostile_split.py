"""Split folders that somebody edited, mixed up or made to lead elsewhere."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from neuronc import pipeline
from neuronc.errors import InputError
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.rank_files import open_rank, open_ranks
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.parallel.split_options import SplitOptions
from neuronc.parallel.unsplit import unsplit_folder
from neuronc.recipe import Recipe
from tests.unit.checkpoint.hostile import JSON_VALUES, QUICK, damaged, refuse_or_accept

UP = "model.layers.0.mlp.up_proj.weight"


def split(source: Path, out: Path, *, tp: int = 2, link: bool = False) -> Path:
    recipe = Recipe(checkpoint=str(source), tp=tp)
    pipeline.split(recipe, out, options=SplitOptions(link=link))
    return out


@pytest.fixture(scope="module")
def plain(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split(tiny_llama, tmp_path_factory.mktemp("plain") / "out")


@pytest.fixture(scope="module")
def linked(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split(tiny_llama, tmp_path_factory.mktemp("linked") / "out", link=True)


def edited(folder: Path, place: Path, change: Callable[[Any], object]) -> Path:
    """A copy of ``folder`` in ``place`` with another ``split.json``."""
    shutil.copytree(folder, place, dirs_exist_ok=True)
    data = json.loads((folder / "split.json").read_text())
    change(data)
    (place / "split.json").write_text(json.dumps(data))
    return place


def read_all(folder: Path) -> None:
    split = read_split_manifest(folder)
    assert split.stored
    for rank in open_ranks(folder, split):
        for name in split.tensors:
            rank.read(name)


@QUICK
@given(data=st.data())
def test_any_value_anywhere_in_a_manifest_ends_in_no_traceback(
    plain: Path, linked: Path, tmp_path: Path, data: st.DataObject
) -> None:
    folder = data.draw(st.sampled_from([plain, linked]))
    found = json.loads((folder / "split.json").read_text())
    found["tensors"] = {name: found["tensors"][name] for name in (UP, "model.norm.weight")}
    if "linked" in found:
        slices = found["linked"]["slices"]
        found["linked"]["slices"] = {name: slices[name] for name in found["tensors"]}
    else:
        found["tensors"][UP]["origins"] = [[UP, "f32", found["tensors"][UP]["shape"]]]
    place: Any = found
    while True:
        key = data.draw(
            st.sampled_from(list(place) if isinstance(place, dict) else range(len(place)))
        )
        if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON_VALUES)
    (tmp_path / "split.json").write_text(json.dumps(found))
    refuse_or_accept(lambda: read_split_manifest(tmp_path).stored)


@QUICK
@given(data=st.data())
def test_a_damaged_manifest_ends_in_no_traceback(
    linked: Path, tmp_path: Path, data: st.DataObject
) -> None:
    (tmp_path / "split.json").write_bytes(damaged(data, (linked / "split.json").read_bytes()))
    refuse_or_accept(lambda: read_all(tmp_path))


def test_a_linked_split_reads_what_it_should(linked: Path) -> None:
    read_all(linked)


def _link_to(path: Path) -> Callable[[Any], object]:
    def change(data: Any) -> None:
        [file] = data["linked"]["files"]
        found = path.stat() if path.exists() else None
        file["path"] = str(path)
        file["mtime_ns"] = found.st_mtime_ns if found else 0

    return change


@pytest.mark.parametrize("path", ["/dev/zero", "/etc/passwd", "/proc/self/mem", "/"])
@pytest.mark.timeout(30)
def test_a_link_to_a_device_or_another_file_is_refused(
    linked: Path, tmp_path: Path, path: str
) -> None:
    with pytest.raises(InputError):
        read_all(edited(linked, tmp_path, _link_to(Path(path))))


@pytest.mark.timeout(30)
def test_a_link_to_a_pipe_is_not_waited_for(linked: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="changed after it was linked"):
        read_all(edited(linked, tmp_path / "out", _link_to(tmp_path / "pipe")))


def test_a_link_to_a_file_without_weights_is_refused_though_size_and_time_agree(
    linked: Path, tmp_path: Path
) -> None:
    data = json.loads((linked / "split.json").read_text())
    secret = tmp_path / "key"
    secret.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" * 100)
    os.truncate(secret, data["linked"]["files"][0]["size_bytes"])
    with pytest.raises(InputError, match="key says its header has"):
        read_all(edited(linked, tmp_path / "out", _link_to(secret)))


def test_a_slice_of_a_header_is_refused(linked: Path, tmp_path: Path) -> None:
    def change(data: Any) -> None:
        data["linked"]["slices"][UP][1][0][1] = 4

    with pytest.raises(InputError, match=f"a slice of '{UP}' lies in a header"):
        open_rank(edited(linked, tmp_path, change), 1)


@pytest.mark.parametrize("path", ["model.safetensors", "", 5, None, ["/x"], "/x\0y"])
def test_a_linked_path_that_is_none_is_refused(linked: Path, tmp_path: Path, path: object) -> None:
    def change(data: Any) -> None:
        data["linked"]["files"][0]["path"] = path

    with pytest.raises(InputError, match="is no absolute path"):
        open_rank(edited(linked, tmp_path, change), 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tensors", UP, "ranks"), []), (("tensors", UP, "dim"), 5), (("tp",), 10**9),
        (("tensors", UP, "ranks"), [[["", 48]], [[48, 48]]]), (("tensors", UP, "shape"), [9] * 40),
        (("tensors", UP, "ranks"), [[[False, 48]], [[48, 48]]]),
        (("tensors", UP, "shape"), [2**62, 2**62]), (("padding", "split_params"), "x"),
        (("padding", "flops_ratio"), float("nan")), (("padding", "extra_q_heads"), -1),
        (("tensors", UP, "origins"), [[UP, "f32", [36, 96]]]),
        (("tensors", "model.norm.weight", "origins"), [["a", "f32", [1, 36]]]),
        (("tensors", UP, "role"), [[[[[[]]]]]]),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused(
    linked: Path, tmp_path: Path, path: tuple[str, ...], value: object
) -> None:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    with pytest.raises(InputError, match="is damaged") as caught:
        read_split_manifest(edited(linked, tmp_path, change))
    assert len(caught.value.message) < 700


@pytest.mark.parametrize("twice", ["model.norm.weight", "__metadata__"])
def test_two_parameters_of_one_origin_are_refused_by_unsplit(
    plain: Path, tmp_path: Path, twice: str
) -> None:
    def change(data: Any) -> None:
        shape = data["tensors"][UP]["shape"]
        data["tensors"][UP]["origins"] = [[twice, "f32", shape]]

    folder = edited(plain, tmp_path / "in", change)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=f"that they were '{twice}'"):
        unsplit_folder(folder, tmp_path / "out")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text('{"a": 1}')])
def test_a_config_that_changed_or_is_gone_is_noticed_by_unsplit(
    plain: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    shutil.copytree(plain, tmp_path / "in")
    change(tmp_path / "in" / "generation_config.json")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"generation_config\.json(:| is missing)"):
        unsplit_folder(tmp_path / "in", tmp_path / "out")


def other(plain: Path, place: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """``plain`` with rank 1's weights exchanged for others."""
    shutil.copytree(plain, place)
    path = place / "rank-1.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    return place


def test_a_rank_of_another_split_is_not_split_again(plain: Path, tmp_path: Path) -> None:
    mixed = other(plain, tmp_path / "mixed", lambda w: w.update({UP: w[UP] + 1}))
    with pytest.raises(InputError, match=f"'{UP}' of .* is not the tensor that split.json was"):
        split(mixed, tmp_path / "again", tp=1)
    assert not (tmp_path / "again").exists()
    (tmp_path / "back").mkdir()
    with pytest.raises(InputError, match=f"'{UP}' of .* is not the tensor that was split"):
        unsplit_folder(mixed, tmp_path / "back")


def test_reading_a_range_after_the_other_compares_the_digest(plain: Path, tmp_path: Path) -> None:
    mixed = other(plain, tmp_path / "mixed", lambda w: w.update({UP: w[UP] + 1}))
    for folder, is_whole in ((plain, True), (mixed, False)):
        reader: Any = open_any_checkpoint(str(folder)).reader
        first, rows = reader.read_range(UP, 0, 40), reader.read(UP) if is_whole else None
        if rows is not None:
            assert np.array_equal(np.concatenate([first, reader.read_range(UP, 40, 96)]), rows)
            continue
        with pytest.raises(InputError, match="is not the tensor that split"):
            reader.read_range(UP, 40, 96)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop(UP),
        lambda w: w.update(extra=w[UP]),
        lambda w: w.update({UP: w[UP][:-1].copy()}),
        lambda w: w.update({UP: w[UP].astype(np.float16)}),
    ],
)
def test_a_rank_that_does_not_fit_its_manifest_is_refused(
    plain: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    mixed = other(plain, tmp_path / "mixed", change)
    with pytest.raises(InputError, match=r"rank 1 in .* has .* split\.json says"):
        open_ranks(mixed)


@pytest.mark.timeout(30)
def test_a_pipe_in_the_place_of_a_rank_is_not_waited_for(plain: Path, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "out")
    (tmp_path / "out" / "rank-1.safetensors").unlink()
    os.mkfifo(tmp_path / "out" / "rank-1.safetensors")
    with pytest.raises(InputError, match=r"rank-1\.safetensors: it is not a plain file"):
        open_ranks(tmp_path / "out")
