import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from neuronc.checkpoint.digest import sha256_file
from neuronc.errors import InputError, UsageError
from neuronc.matrix.cells import Cell, load_cells
from neuronc.matrix.inputs import read_input
from neuronc.matrix.lock import Lock, made_on, pinned, resolve
from neuronc.matrix.lock_changes import digest_difference, require_same, update, with_artifact
from neuronc.matrix.lock_file import lock_path, read_lock, write_lock
from neuronc.preparation import DEFAULT_OPTIONS
from neuronc.targets.neuron.settings import CompileOptions
from tests.unit.matrix.built import make_manifest

TEXT = """
checkpoint = "./model"
[[build]]
name = "a"
[[build]]
name = "b"
adapter = "./lora"
tp = 2
"""
NAMES = ("a", "b")
COMMITS = {"main": "1" * 40, "new": "2" * 40}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe file with two builds, and what they read; no build looks at the weights here."""
    (tmp_path / "some.toml").write_text(TEXT)
    for name, files in {
        "model": {
            "config.json": "{}",
            "tokenizer.json": "{}",
            "model.safetensors": "weights",
            "README.md": "words",
            "pytorch_model.bin": "not read beside safetensors",
        },
        "lora": {"adapter_config.json": "{}", "adapter_model.safetensors": "lora"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    return tmp_path


def cells_of(folder: Path) -> tuple[Cell, ...]:
    return load_cells(folder / "some.toml")


def lock_of(folder: Path, **options: Any) -> Lock:
    return resolve(cells_of(folder), CompileOptions(**options))


def differences(there: Lock, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        require_same(there, lock_of(folder), NAMES, subject="some.lock")
    assert caught.value.exit_code == 3
    assert "--update-lock" in caught.value.hint
    return caught.value.message


def test_lock_holds_every_file_a_build_reads_and_no_folder_of_this_machine(folder: Path) -> None:
    lock = lock_of(folder)
    model, lora = lock.inputs["./model"], lock.inputs["adapter ./lora"]
    names = ["config.json", "model.safetensors", "tokenizer.json"]
    assert [file.path for file in model.files] == names
    assert model.files[1].sha256 == sha256_file(folder / "model/model.safetensors")
    assert model.files[1].size_bytes == len("weights")
    assert [file.path for file in lora.files] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert lock.cells["b"].options == {"tp": 2}
    write_lock(lock, folder / "some.lock")
    assert str(folder) not in (folder / "some.lock").read_text()


def test_lock_is_read_as_it_was_written(folder: Path) -> None:
    lock = with_artifact(lock_of(folder), "a", make_manifest())
    path = lock_path(folder / "some.toml")
    assert path.name == "some.lock"
    write_lock(lock, path)
    assert read_lock(path) == lock
    before = path.read_bytes()
    write_lock(read_lock(path), path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["lora", "model", "some.lock", "some.toml"]


def test_same_inputs_elsewhere_are_the_same(folder: Path, tmp_path: Path) -> None:
    import shutil

    there = lock_of(folder)
    shutil.copytree(folder, tmp_path / "copy" / "of")
    (tmp_path / "copy/of/model/README.md").write_text("other words")
    require_same(there, lock_of(tmp_path / "copy/of"), NAMES, subject="some.lock")


def rewrite(path: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_text(text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (rewrite("model/model.safetensors", "wEights"), "./model: model.safetensors was 7 bytes"),
        (rewrite("model/vocab.json", "{}"), "./model: vocab.json is new"),
        (lambda folder: (folder / "model/tokenizer.json").unlink(), "tokenizer.json is gone"),
        (rewrite("lora/adapter_config.json", "[]"), "adapter ./lora: adapter_config.json was"),
        (rewrite("some.toml", TEXT.replace("tp = 2", "tp = 3")), "build 'b': tp was 2, is 3"),
        (rewrite("some.toml", TEXT.replace("tp = 2", "")), "build 'b': tp was 2, is None"),
        (
            rewrite("some.toml", TEXT.replace('adapter = "./lora"', "")),
            "build 'b': adapter was 'adapter ./lora', is None",
        ),
        (rewrite("some.toml", f'{TEXT}[[build]]\nname = "c"\n'), "build 'c' is not in it"),
    ],
)
def test_what_changed_is_refused_by_name(
    folder: Path, change: Callable[[Path], object], told: str
) -> None:
    there = lock_of(folder)
    require_same(there, lock_of(folder), NAMES, subject="some.lock")
    change(folder)
    assert told in differences(there, folder)


def test_other_tools_and_lost_builds_are_refused(folder: Path) -> None:
    there = lock_of(folder)
    older = replace(there, tools={**there.tools, "torch": "1.0"})
    assert "torch was 1.0, is " in differences(older, folder)
    more = replace(there, cells={**there.cells, "c": there.cells["a"]})
    assert "build 'c' is no more" in differences(more, folder)


def test_many_differences_are_told_in_a_few_words(folder: Path) -> None:
    there = lock_of(folder)
    older = replace(there, tools=dict.fromkeys(there.tools, "0"))
    assert f"; and {len(there.tools) - 5} more" in differences(older, folder)


def test_what_the_command_line_asks_is_part_of_it(folder: Path) -> None:
    there = lock_of(folder, lower_only=True)
    assert "build 'a': lower_only was True, is None" in differences(there, folder)


def test_config_alone_reads_no_weights(folder: Path) -> None:
    found = lock_of(folder, config_only=True).inputs["./model"]
    assert [file.path for file in found.files] == ["config.json", "tokenizer.json"]


def test_update_keeps_digests_of_what_is_the_same(folder: Path) -> None:
    manifest = make_manifest()
    there = lock_of(folder)
    for name in NAMES:
        there = with_artifact(there, name, manifest)
    assert update(there, lock_of(folder), NAMES) == there
    (folder / "lora/adapter_model.safetensors").write_text("other")
    found = update(there, lock_of(folder), NAMES)
    digests = {name: cell.artifact_digest for name, cell in found.cells.items()}
    assert digests == {"a": manifest.digest, "b": None}
    older = replace(there, tools={**there.tools, "torch": "1.0"})
    found = update(older, lock_of(folder), NAMES)
    assert {cell.artifact_digest for cell in found.cells.values()} == {None}


def test_update_by_a_shard_keeps_the_other_builds(folder: Path) -> None:
    a, b = cells_of(folder)
    first = update(None, resolve([a], DEFAULT_OPTIONS), NAMES)
    assert list(first.cells) == ["a"]
    first = with_artifact(first, "a", make_manifest())
    second = update(first, resolve([b], DEFAULT_OPTIONS), NAMES)
    assert second.cells["a"] == first.cells["a"]
    assert set(second.inputs) == {"./model", "adapter ./lora"}
    assert list(update(second, resolve([a], DEFAULT_OPTIONS), ("a",)).inputs) == ["./model"]


def test_shard_keeps_no_digest_when_it_finds_another_checkpoint(folder: Path) -> None:
    _, b = cells_of(folder)
    there = with_artifact(lock_of(folder), "a", make_manifest())
    (folder / "model/config.json").write_text("[]")
    assert update(there, resolve([b], DEFAULT_OPTIONS), NAMES).cells["a"].artifact_digest is None


def test_another_digest_is_told_with_its_likely_reason(folder: Path) -> None:
    lock = with_artifact(lock_of(folder), "a", make_manifest())
    locked = lock.cells["a"]
    assert digest_difference(locked, make_manifest()) == ""
    assert digest_difference(lock.cells["b"], make_manifest()) == ""
    same_machine = digest_difference(locked, make_manifest(max_length=16))
    assert "something is not fixed" in same_machine
    other = make_manifest(machine="aarch64")
    assert "made with another kind of machine" in digest_difference(locked, other)
    assert made_on(other)["neuronx-cc"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.update(lock_version=2), "lock_version 2; expected 1"),
        (lambda data: data.pop("cells"), "is damaged: KeyError('cells')"),
        (lambda data: data.update(inputs=3), "is damaged"),
        (lambda data: data.update(tools={"torch": 2}), "is damaged"),
        (lambda data: data["cells"]["a"].update(checkpoint="./gone"), "no input './gone'"),
        (lambda data: data["cells"]["a"].update(artifact_digest=3), "is damaged"),
        (lambda data: data["inputs"]["./model"].update(files=[1]), "is damaged"),
        (lambda data: data["inputs"]["./model"]["files"][0].update(size_bytes="1"), "is damaged"),
    ],
)
def test_damaged_lock_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], told: str
) -> None:
    path = folder / "some.lock"
    write_lock(lock_of(folder), path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        read_lock(path)
    assert str(path) in caught.value.message
    assert told in caught.value.message


def test_missing_lock_and_place_that_cannot_be_written_are_told(folder: Path) -> None:
    with pytest.raises(InputError, match="there is no lock file"):
        read_lock(folder / "some.lock")
    with pytest.raises(UsageError, match="cannot write the lock file"):
        write_lock(lock_of(folder), folder / "absent" / "some.lock")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """A cache of the Hub as its library lays it out, with two commits of org/name."""
    for commit in COMMITS.values():
        snapshot = tmp_path / "models--org--name" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(commit)
        (snapshot / "model.safetensors").write_text("weights")
    asked: list[str | None] = []

    def snapshot_download(repository: str, *, revision: str | None, **_: object) -> str:
        assert repository == "org/name"
        asked.append(revision)
        commit = COMMITS.get(revision or "main", revision)
        return str(tmp_path / "models--org--name" / "snapshots" / str(commit))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ('checkpoint = "org/name"', "org/name"),
        ('checkpoint = "org/name@main"', "org/name@main"),
        ('checkpoint = "org/name"\nrevision = "main"', "org/name at main"),
    ],
)
def test_hub_id_is_built_at_the_commit_in_the_lock_when_its_branch_moves(
    tmp_path: Path, hub: list[str | None], monkeypatch: pytest.MonkeyPatch, source: str, key: str
) -> None:
    (tmp_path / "some.toml").write_text(f'{source}\nout = "x"\n')
    lock = lock_of(tmp_path)
    assert lock.inputs[key].revision == COMMITS["main"]
    (cell,) = cells_of(tmp_path)
    recipe = pinned(cell, lock).recipe
    assert (recipe.checkpoint, recipe.revision) == ("org/name", COMMITS["main"])

    first = COMMITS["main"]
    monkeypatch.setitem(COMMITS, "main", COMMITS["new"])
    moved = lock_of(tmp_path)
    with pytest.raises(InputError, match=f"commit was {first}, is {COMMITS['new']}"):
        require_same(lock, moved, ("some",), subject="some.lock")
    commits = {key: found.revision for key, found in lock.inputs.items()}
    here = resolve([cell], DEFAULT_OPTIONS, commits=commits)
    assert hub[-1] == first
    require_same(lock, here, ("some",), subject="some.lock")


def test_local_snapshot_folder_has_no_commit(tmp_path: Path, hub: list[str | None]) -> None:
    folder = tmp_path / "models--org--name" / "snapshots" / COMMITS["main"]
    assert read_input(str(folder)).revision is None
    assert hub == []


@pytest.mark.parametrize("index", ["model.safetensors", "pytorch_model.bin"])
def test_every_part_of_an_index_is_read(tmp_path: Path, index: str) -> None:
    (tmp_path / f"{index}.index.json").write_text(
        json.dumps({"weight_map": {"x": "part-2", "y": "part-1", "z": "part-2"}})
    )
    for name in ("config.json", "part-1", "part-2", "part-3"):
        (tmp_path / name).write_text(name)
    found = [file.path for file in read_input(str(tmp_path)).files]
    assert found == sorted(["config.json", f"{index}.index.json", "part-1", "part-2"])


def test_split_folder_and_pooling_of_an_encoder_are_read(tmp_path: Path) -> None:
    for name in ("config.json", "split.json", "rank-0.safetensors", ".gitattributes", "LICENSE"):
        (tmp_path / name).write_text(name)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text("{}")
    found = [file.path for file in read_input(str(tmp_path)).files]
    assert found == ["1_Pooling/config.json", "config.json", "rank-0.safetensors", "split.json"]


def test_gguf_file_is_its_own_input(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("x")
    assert [file.path for file in read_input(str(tmp_path / "m.gguf")).files] == ["m.gguf"]


def test_url_is_told_apart_by_its_version_and_not_read(folder: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/lock/config.json", b"{}")
    store.pipe("/lock/model.safetensors", b"weights")
    try:
        found = read_input("memory://lock")
    finally:
        store.rm("/lock", recursive=True)
    assert [file.path for file in found.files] == ["config.json", "model.safetensors"]
    assert {file.sha256 for file in found.files} == {None}
    assert all(file.version for file in found.files)
