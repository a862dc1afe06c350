"""What holds for every kind of URL, on fsspec's file system in memory."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.artifact.reuse import describe_request
from neuronc.artifact.weights import open_source
from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.checkpoint.config_only import open_config_only
from neuronc.checkpoint.remote import mirror, reader
from neuronc.checkpoint.remote.store import RemoteFile, read_bytes
from neuronc.checkpoint.source import resolve_source
from neuronc.errors import InputError, PlanError
from neuronc.recipe import Recipe

Remember = Callable[[Path], str]


@pytest.mark.parametrize("which", ["folder", "sharded_folder"])
def test_tensors_are_the_local_reader_s_bit_for_bit(
    request: pytest.FixtureRequest, remember: Remember, which: str
) -> None:
    place: Path = request.getfixturevalue(which)
    local, remote = open_checkpoint(str(place)), open_checkpoint(remember(place))
    assert list(remote.tensors.items()) == list(local.tensors.items())
    assert remote.config == local.config
    for name in local.tensors:
        found, expected = remote.reader.read(name), local.reader.read(name)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


def test_scalars_and_empty_tensors_can_be_read(folder: Path, remember: Remember) -> None:
    arrays = {"empty": np.zeros((0, 3), np.float32), "one": np.array(7, np.int32)}
    save_file(arrays, folder / "model.safetensors")
    found: Any = open_checkpoint(remember(folder)).reader
    assert found.read("one") == 7
    assert found.read("empty").shape == (0, 3)
    assert found.read_range("empty", 0, 0).shape == (0, 3)


def test_rows_are_read_alone(folder: Path, remember: Remember, arrays: Any) -> None:
    found: Any = open_checkpoint(remember(folder)).reader
    whole = arrays["model.a.weight"]
    for start, stop in [(0, 1), (1, 3), (0, 3), (2, 2)]:
        rows = found.read_range("model.a.weight", start, stop)
        assert rows.shape == (stop - start, 4)
        assert rows.tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4)])
def test_rows_that_are_not_there_are_refused(
    folder: Path, remember: Remember, start: int, stop: int
) -> None:
    found: Any = open_checkpoint(remember(folder)).reader
    with pytest.raises(ValueError, match=r"\[3, 4\] has no rows"):
        found.read_range("model.a.weight", start, stop)


def test_a_large_tensor_comes_in_pieces(
    folder: Path, remember: Remember, monkeypatch: pytest.MonkeyPatch, arrays: Any
) -> None:
    monkeypatch.setattr(reader, "PIECE_BYTES", 7)
    checkpoint = open_checkpoint(remember(folder))
    asked: list[int] = []

    def read(file: RemoteFile, start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return read_bytes(file, start, stop)

    monkeypatch.setattr(reader, "read_bytes", read)
    found = checkpoint.reader.read("model.a.weight")
    assert found.tobytes() == arrays["model.a.weight"].tobytes()
    assert asked == [7] * 6 + [6]


@pytest.mark.parametrize("size_changes", [False, True])
def test_a_file_that_changed_after_opening_is_refused(
    folder: Path, remember: Remember, memory: Any, size_changes: bool
) -> None:
    checkpoint = open_checkpoint(remember(folder))
    data = memory.cat("/model/model.safetensors")
    memory.pipe("/model/model.safetensors", data[: 100 if size_changes else None])
    with pytest.raises(InputError, match=r"memory://model/model.safetensors changed after"):
        checkpoint.reader.read("model.b.weight")


def test_a_file_that_vanished_after_opening_is_refused(
    folder: Path, remember: Remember, memory: Any
) -> None:
    checkpoint = open_checkpoint(remember(folder))
    memory.rm("/model/model.safetensors")
    with pytest.raises(InputError, match=r"memory://model/model.safetensors changed .* is gone"):
        checkpoint.reader.read("model.b.weight")


def test_opening_again_after_a_change_reads_the_new_one(folder: Path, remember: Remember) -> None:
    before = open_checkpoint(remember(folder))
    save_file({"model.a.weight": np.ones(3, np.float32)}, folder / "model.safetensors")
    after = open_checkpoint(remember(folder))
    assert after.path != before.path
    assert after.reader.read("model.a.weight").tolist() == [1, 1, 1]


def test_an_unchanged_checkpoint_is_copied_once(folder: Path, remember: Remember) -> None:
    url = remember(folder)
    assert resolve_source(url) == resolve_source(url) == resolve_source(url, weights=False)


def test_small_files_are_copied_and_weights_are_not(folder: Path, remember: Remember) -> None:
    (folder / "tokenizer.json").write_text("{}")
    (folder / "modeling_x.py").write_text("raise SystemExit")
    (folder / "modules.json").write_text('[{"path": "1_Pooling"}, {"path": "../x"}, 3]')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    path = resolve_source(remember(folder))
    found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert found == {"config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"}
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_config_alone_is_opened_without_weights(folder: Path, remember: Remember) -> None:
    (folder / "model.safetensors").unlink()
    found = open_config_only(remember(folder))
    assert (found.source, found.config["model_type"]) == ("memory://model", "llama")


def test_a_small_file_that_is_large_is_refused(
    folder: Path, remember: Remember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MAX_SMALL_BYTES", 10)
    with pytest.raises(InputError, match=r"config.json has \d+ bytes; expected at most 10"):
        resolve_source(remember(folder))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors", "/etc/passwd", "..", "a/b.safetensors", "s3://other/x", "x?y=1", "x#y",
        "%2e%2e%2fx", "a\\b", "", "x\n",
    ],
)  # fmt: skip
def test_an_index_that_names_other_places_is_refused(
    sharded_folder: Path, remember: Remember, name: str
) -> None:
    index = {"weight_map": {"model.a.weight": name}}
    (sharded_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="expected a plain file name") as caught:
        resolve_source(remember(sharded_folder))
    assert "memory://sharded/model.safetensors.index.json names" in caught.value.message


def test_a_part_that_is_missing_is_named_with_its_index(
    sharded_folder: Path, remember: Remember
) -> None:
    (sharded_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"no memory://sharded/model-00002.*index.json names"):
        resolve_source(remember(sharded_folder))


def test_a_part_that_disagrees_with_the_index_is_refused(
    sharded_folder: Path, remember: Remember
) -> None:
    save_file({"x": np.zeros(1)}, sharded_folder / "model-00002-of-00002.safetensors")
    with pytest.raises(InputError, match=r"memory://sharded/model-00002-of.* holds tensor 'x'"):
        open_checkpoint(remember(sharded_folder))


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_refused_by_its_url(
    folder: Path, remember: Remember, kept: int
) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"^memory://model/model\.safetensors"):
        open_checkpoint(remember(folder))


@pytest.mark.parametrize(("file", "text"), [("config.json", "{"), ("config.json", "{}")])
def test_a_damaged_config_is_refused_by_its_url(
    folder: Path, remember: Remember, file: str, text: str
) -> None:
    (folder / file).write_text(text)
    with pytest.raises(InputError, match=r"^memory://model/config\.json"):
        open_checkpoint(remember(folder))


def test_a_folder_without_config_or_weights_is_refused(
    folder: Path, remember: Remember, memory: Any
) -> None:
    url = remember(folder)
    memory.rm("/model/model.safetensors")
    with pytest.raises(InputError, match=r"^memory://model has no weights"):
        open_checkpoint(url)
    memory.rm("/model/config.json")
    with pytest.raises(InputError, match=r"no memory://model/config\.json \(404\)"):
        open_checkpoint(url)


@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights_are_copied_and_never_run(
    folder: Path, remember: Remember, arrays: Any, sharded: bool
) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    name = "pytorch_model-00001-of-00001.bin" if sharded else "pytorch_model.bin"
    tensors = {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
    torch.save(tensors, folder / name)
    if sharded:
        index = {"weight_map": dict.fromkeys(arrays, name)}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = open_checkpoint(remember(folder))
    assert (found.path / name).is_file()
    for key, value in arrays.items():
        assert found.reader.read(key).tobytes() == value.tobytes()


class _Hostile:
    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_hostile_pickle_is_refused_by_its_url(folder: Path, remember: Remember) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"x": _Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"^memory://model/pytorch_model.bin is not a file of"):
        open_checkpoint(remember(folder))


def test_a_gguf_file_is_copied(write_gguf: Callable[..., Path], memory: Any) -> None:
    path = write_gguf()
    memory.pipe(f"/deep/{path.name}", path.read_bytes())
    local, remote = open_checkpoint(str(path)), open_checkpoint(f"memory://deep/{path.name}")
    assert remote.source == f"memory://deep/{path.name}"
    assert remote.tensors == local.tensors
    name = next(iter(local.tensors))
    assert remote.reader.read(name).tobytes() == local.reader.read(name).tobytes()


def test_no_room_for_a_copy_is_a_plan_error_before_anything_is_copied(
    folder: Path, remember: Remember, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "free_bytes", lambda _: 10)
    with pytest.raises(PlanError, match=r"no room for a copy of .*: \d+ bytes needed, 10 bytes"):
        resolve_source(remember(folder))


def test_a_build_s_request_knows_the_version_behind_the_url(
    folder: Path, remember: Remember
) -> None:
    recipe = Recipe(checkpoint=remember(folder))
    first = describe_request(recipe)
    assert describe_request(recipe) == first
    remember(folder)
    assert describe_request(recipe)["checkpoint_files"] != first["checkpoint_files"]


def test_weights_behind_a_url_are_no_config_alone(remember: Remember, tmp_path: Path) -> None:
    from tests.tiny_models import make_checkpoint

    recipe = Recipe(checkpoint=remember(make_checkpoint(tmp_path / "tiny")))
    source = open_source(recipe, lower_only=True, config_only=False)
    assert source.has_weights
    assert source.name == "memory://tiny"


def test_a_file_that_changes_while_it_is_copied_is_refused(
    folder: Path, remember: Remember, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, get_file = remember(folder), type(memory).get_file

    def get_and_change(self: Any, place: str, path: str) -> None:
        get_file(self, place, path)
        memory.pipe("/model/config.json", b"{}")

    monkeypatch.setattr(type(memory), "get_file", get_and_change)
    with pytest.raises(InputError, match=r"memory://model/config.json changed after"):
        resolve_source(url)
