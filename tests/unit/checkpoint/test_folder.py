import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.errors import InputError

INDEX = "model.safetensors.index.json"


def _write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def _weight_map(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return found


@pytest.mark.parametrize("kind", ["folder", "sharded_folder"])
def test_a_folder_opens_with_config_tensors_and_values(
    request: pytest.FixtureRequest, kind: str, arrays: Mapping[str, Any]
) -> None:
    place = request.getfixturevalue(kind)
    checkpoint = open_checkpoint(str(place))
    assert checkpoint.source == str(place)
    assert checkpoint.path == place
    assert checkpoint.config["model_type"] == "llama"
    assert list(checkpoint.tensors) == list(arrays)
    for name, array in arrays.items():
        assert checkpoint.tensors[name].shape == array.shape
        assert checkpoint.tensors[name].size_bytes == array.nbytes
        assert np.array_equal(checkpoint.reader.read(name), array)


def test_safetensors_needs_neither_torch_nor_jax_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from neuronc.checkpoint.checkpoint import open_checkpoint\n"
        "from neuronc.checkpoint.companions import write_companions\n"
        "from neuronc.checkpoint.safetensors_writer import SafetensorsWriter\n"
        "from pathlib import Path\n"
        f"c = open_checkpoint({str(folder)!r}); write_companions(c, Path({str(folder)!r}) / 'out')\n"
        f"with SafetensorsWriter(Path({str(folder)!r}) / 'w', list(c.tensors.values())) as w:\n"
        "    [w.write(name, c.reader.read(name)) for name in c.tensors]\n"
        "heavy = {'torch', 'jax', 'transformers', 'huggingface_hub', 'gguf'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_safetensors_is_preferred_to_pickled_weights(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert len(open_checkpoint(str(folder)).tensors) == 2


def test_tokenizer_and_generation_files_are_found_and_code_is_not(folder: Path) -> None:
    for name in ("tokenizer.json", "chat_template.jinja", "modeling_x.py", "notes.json"):
        (folder / name).write_text("{}")
    found = [path.name for path in open_checkpoint(str(folder)).companions]
    assert found == ["tokenizer.json", "chat_template.jinja"]


def test_a_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "holds a JSON list"),
        ("{}", "model_type None"),
        ('{"model_type": 3}', "model_type 3"),
    ],
)
def test_a_broken_config_is_refused_by_name(folder: Path, text: str, fault: str) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=rf"config\.json .*{fault}"):
        open_checkpoint(str(folder))


def test_a_folder_without_weights_is_refused_naming_what_was_expected(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no weights: expected model\.safetensors or"):
        open_checkpoint(str(folder))


def test_weights_without_a_single_tensor_are_refused(folder: Path) -> None:
    save_file({}, folder / "model.safetensors")
    with pytest.raises(InputError, match="holds no tensors"):
        open_checkpoint(str(folder))


def test_an_index_naming_an_absent_file_is_refused(sharded_folder: Path) -> None:
    (sharded_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"index\.json names 'model-00002-of-00002\.safetensors'"):
        open_checkpoint(str(sharded_folder))


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b", "a\0b"]
)
def test_an_index_that_leaves_the_folder_is_refused(sharded_folder: Path, name: str) -> None:
    _write_index(sharded_folder, _weight_map(sharded_folder) | {"model.b.weight": name})
    with pytest.raises(InputError, match="expected a plain file name inside"):
        open_checkpoint(str(sharded_folder))


def test_a_weight_file_that_links_out_of_the_folder_is_refused(
    sharded_folder: Path, tmp_path: Path
) -> None:
    part = sharded_folder / "model-00001-of-00002.safetensors"
    part.rename(tmp_path / "elsewhere.safetensors")
    part.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(InputError, match=r"a link to .*elsewhere"):
        open_checkpoint(str(sharded_folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_no_file_may_link_out_of_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("{}")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=r"a link to .*secret"):
        open_checkpoint(str(folder))


def test_a_link_that_leads_to_itself_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    with pytest.raises(InputError, match=r"no config\.json"):
        open_checkpoint(str(folder))


def test_links_of_a_hub_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in folder.iterdir():
        blob = repository / "blobs" / f"digest-{file.name}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    assert len(open_checkpoint(str(snapshot)).tensors) == 2


def test_a_folder_may_itself_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert len(open_checkpoint(str(tmp_path / "link")).tensors) == 2


def test_a_tensor_missing_from_its_part_is_refused(sharded_folder: Path) -> None:
    part = "model-00001-of-00002.safetensors"
    _write_index(sharded_folder, _weight_map(sharded_folder) | {"model.c.weight": part})
    with pytest.raises(
        InputError, match=r"00001-of-00002\.safetensors lacks tensor 'model.c.weight'"
    ):
        open_checkpoint(str(sharded_folder))


def test_an_extra_tensor_in_a_part_is_refused(sharded_folder: Path) -> None:
    part = sharded_folder / "model-00001-of-00002.safetensors"
    both = {name: np.zeros(1, np.float32) for name in ("model.a.weight", "extra")}
    save_file(both, part)
    with pytest.raises(InputError, match="holds tensor 'extra', which the index does not place"):
        open_checkpoint(str(sharded_folder))


def test_parts_in_each_others_place_are_refused(sharded_folder: Path) -> None:
    first, second = sorted(sharded_folder.glob("model-*.safetensors"))
    first.rename(sharded_folder / "spare")
    second.rename(first)
    (sharded_folder / "spare").rename(second)
    with pytest.raises(InputError, match="which the index does not place there"):
        open_checkpoint(str(sharded_folder))


@pytest.mark.parametrize("weight_map", [None, [], {}, {"model.a.weight": 3}])
def test_an_index_without_a_usable_weight_map_is_refused(
    sharded_folder: Path, weight_map: object
) -> None:
    _write_index(sharded_folder, weight_map)
    with pytest.raises(InputError, match=r"index\.json has no usable weight_map"):
        open_checkpoint(str(sharded_folder))
