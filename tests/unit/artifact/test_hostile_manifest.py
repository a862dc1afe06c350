"""``manifest.json`` of an artifact with anything in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.artifact.manifest import Manifest, ProgramEntry, read_manifest, write_manifest
from neuronc.checkpoint.digest import FileDigest
from neuronc.errors import InputError
from neuronc.trace.program_spec import ProgramSignature, TensorSpec
from tests.unit.checkpoint.hostile import JSON_VALUES, QUICK, damaged, refuse_or_accept


def manifest() -> Manifest:
    weight = TensorSpec(name="w", kind="weight", shape=(4, 2), dtype="f32")
    cache = TensorSpec(name="k", kind="cache", shape=(1, 8, 2), dtype="f32")
    logits = TensorSpec(name="logits", kind="data", shape=(1, 4), dtype="f32")
    signature = ProgramSignature(inputs=(weight, cache), outputs=(logits, cache), aliases={1: 1})
    programs = tuple(
        ProgramEntry(name=f"{phase}_8", phase=phase, bucket=8, signature=signature)
        for phase in ("prefill", "decode")
    )
    return Manifest(
        model={"model_type": "llama", "source": "x", "config_sha256": "0" * 64},
        tp=1,
        batch_size=1,
        max_length=8,
        dtype="f32",
        target="cpu",
        programs=programs,
        tool_versions={"neuronc": "0"},
        host={"isa": ["avx2"], "jaxlib": "0.9"},
        files=(FileDigest(path="weights/split.json", size_bytes=3, sha256="0" * 64),),
    )


def use(folder: Path) -> None:
    found = read_manifest(folder)
    assert found.digest
    assert found.lnc >= 1


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    write_manifest(manifest(), tmp_path)
    use(tmp_path)
    assert read_manifest(tmp_path) == manifest()


@QUICK
@given(data=st.data())
def test_any_value_anywhere_in_a_manifest_ends_in_no_traceback(
    tmp_path: Path, data: st.DataObject
) -> None:
    write_manifest(manifest(), tmp_path)
    found = json.loads((tmp_path / "manifest.json").read_text())
    place: Any = found
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON_VALUES)
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    refuse_or_accept(lambda: use(tmp_path))


@QUICK
@given(data=st.data())
def test_a_damaged_manifest_ends_in_no_traceback(tmp_path: Path, data: st.DataObject) -> None:
    write_manifest(manifest(), tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(damaged(data, path.read_bytes()))
    refuse_or_accept(lambda: use(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["[" * 950 + "]" * 950, '{"format": ' + "9" * 5000 + "}", '{"format": 1e999}', "\ufeff{}"],
)
def test_text_that_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(tmp_path)
