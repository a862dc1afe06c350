"""Which files of a checkpoint take part, and what is told of them."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from neuronc.artifact.weights import Source
from neuronc.checkpoint.used_files import used_files
from neuronc.provenance.inputs import describe_inputs, describe_tools
from neuronc.recipe import Recipe
from tests.unit.artifact.test_hostile_manifest import manifest

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHERS = ("optimizer.pt", "training_args.bin", "runs/log.txt", "consolidated.safetensors")


def fill(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def source(name: str = "x") -> Source:
    return Source(name=name, config=cast("Any", None), tp=1, dtype="f32")


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        ((MODEL, "pytorch_model.bin"), {MODEL}),
        (("pytorch_model.bin",), {"pytorch_model.bin"}),
        (("pytorch_model.bin/p0", "pytorch_model.bin/p1"), None),
        (("weights/tp0_sharded_checkpoint.safetensors", "neuron_config.json"), None),
    ],
)
def test_weights_are_those_that_would_be_opened(
    tmp_path: Path, names: tuple[str, ...], weights: set[str] | None
) -> None:
    fill(tmp_path, ("config.json", "README.md", "1_Pooling/config.json", *names, *OTHERS[:3]))
    expected = weights or set(names)
    metadata = {"config.json", "README.md", "1_Pooling/config.json"}
    assert set(used_files(tmp_path, weights=True)) == metadata | expected
    assert set(used_files(tmp_path, weights=False)) == metadata


def test_an_index_names_its_parts(tmp_path: Path) -> None:
    parts = ("model-1.safetensors", "model-2.safetensors")
    fill(tmp_path, ("config.json", *parts, *OTHERS))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": parts[0], "b": parts[1]}}))
    assert set(used_files(tmp_path, weights=True)) == {"config.json", INDEX, *parts}


def test_a_local_checkpoint_is_known_by_its_bytes_and_not_by_its_place(tmp_path: Path) -> None:
    told = []
    for place in ("here", "far/there"):
        folder = fill(tmp_path / place, ("config.json", MODEL))
        told.append(describe_inputs(Recipe(checkpoint=str(folder)), source()))
    assert told[0] == told[1]
    assert "far" not in json.dumps(told)
    file = next(found for found in told[0] if found["name"] == f"checkpoint/{MODEL}")
    assert file["digest"] == {"sha256": hashlib.sha256(MODEL.encode()).hexdigest()}
    (tmp_path / "here" / MODEL).write_text("other values")
    changed = describe_inputs(Recipe(checkpoint=str(tmp_path / "here")), source())
    assert changed[0]["digest"] != told[0][0]["digest"]


def test_a_hub_snapshot_is_named_by_its_commit(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    folder = fill(repository / "snapshots" / ("a" * 40), ("config.json", MODEL))
    found = describe_inputs(Recipe(checkpoint=str(folder)), source("org/name"))
    assert found[0]["uri"] == f"pkg:huggingface/org/name@{'a' * 40}"
    assert found[0]["digest"]["gitCommit"] == "a" * 40
    assert found[1]["uri"] == f"pkg:huggingface/org/name@{'a' * 40}#config.json"


def test_tools_are_package_urls_and_aws_packages_say_where_they_come_from() -> None:
    from dataclasses import replace

    neuron = {"lnc": 1, "compiler": {"version": "2.27.5334.0+f702b353", "stand_in": False}}
    tools = {"neuronc": "1", "torch": "2.13.0", "gone": None}
    found = describe_tools(replace(manifest(), tool_versions=tools, neuron=neuron))
    uris = [tool["uri"] for tool in found]
    assert uris[:2] == ["pkg:pypi/jaxlib@0.9", "pkg:pypi/torch@2.13.0"]
    assert uris[2].startswith("pkg:pypi/neuronx-cc@2.27.5334.0%2Bf702b353?repository_url=https%3A")
    assert len(uris) == 3


def test_behind_a_url_copies_have_digests_and_the_rest_a_version() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe(
        {f"/provenance/{n}": n.encode() for n in ("config.json", MODEL)}
    )
    found = describe_inputs(Recipe(checkpoint="memory://provenance"), source("memory://x"))
    told = {entry["name"]: entry for entry in found}
    assert told["checkpoint"]["uri"] == "memory://x"
    config, weights = told["checkpoint/config.json"], told[f"checkpoint/{MODEL}"]
    assert config["digest"] == {"sha256": hashlib.sha256(b"config.json").hexdigest()}
    assert "digest" not in weights
    assert weights["annotations"]["version"]
    assert weights["uri"].endswith(MODEL)
