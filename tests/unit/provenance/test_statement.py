"""The statement is about the artifact and nothing else, and the same everywhere."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.contents import digest_files
from neuronc.artifact.manifest import Manifest, read_manifest, write_manifest
from neuronc.errors import InputError
from neuronc.provenance.consistent import find_differences, find_gaps
from neuronc.provenance.names import BESIDE_MANIFEST, BOM_FILE, PROVENANCE_FILE
from neuronc.provenance.read import definition_of, dependencies_of, read_statement
from neuronc.provenance.statement import make_statement, to_bytes
from neuronc.provenance.write import carry_provenance, write_documents
from tests.unit.artifact.test_diff import write_split
from tests.unit.provenance.small import INPUTS, REQUEST, make_small

ELSEWHERE = {**REQUEST, "checkpoint": "/mnt/x", "adapter": "polite", "checkpoint_files": "6" * 64}


def statement_of(folder: Path) -> dict[str, Any]:
    found = read_statement(folder)
    assert found is not None
    return found


def test_same_inputs_at_another_place_give_the_same_bytes(tmp_path: Path) -> None:
    make_small(tmp_path / "one")
    make_small(tmp_path / "deeper" / "two", request=ELSEWHERE)
    for name in (PROVENANCE_FILE, BOM_FILE):
        one, two = ((tmp_path / f / name).read_bytes() for f in ("one", "deeper/two"))
        assert one == two
        assert b"/home" not in one
        assert str(tmp_path).encode() not in one


def test_how_long_a_compile_took_is_in_none_of_it(tmp_path: Path) -> None:
    written = []
    for place, log in (("one", "took 3 s"), ("two", "took 4 s")):
        make_small(tmp_path / place)
        (tmp_path / place / "programs/prefill_8/neuronx-cc.log").write_text(log)
        manifest = read_manifest(tmp_path / place)
        manifest = replace(manifest, files=digest_files(tmp_path / place))
        write_documents(tmp_path / place, manifest, INPUTS)
        written += [(tmp_path / place / name).read_bytes() for name in (PROVENANCE_FILE, BOM_FILE)]
    assert written[:2] == written[2:]


def test_it_is_a_statement_with_slsa_provenance(tmp_path: Path) -> None:
    manifest = make_small(tmp_path)
    found = statement_of(tmp_path)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = definition_of(found)
    asked = definition["externalParameters"]
    assert (asked["checkpoint"], asked["adapter"], asked["tp"]) == ("x", "polite", 1)
    assert not {"checkpoint_files", "adapter_files", "refit_of"} & asked.keys()
    uris = [found.get("uri") for found in dependencies_of(found)]
    assert "pkg:pypi/torch@2.13.0%2Bcpu" in uris
    assert "pkg:pypi/absent@None" not in uris
    for entry in (*found["subject"], *dependencies_of(found)):
        assert {"uri", "digest", "content"} & entry.keys(), "in-toto wants one of the three"
    names = {entry["name"] for entry in found["subject"]}
    logs = {"programs/prefill_8/neuronx-cc.log"}
    assert names == {"manifest.json", *(f.path for f in manifest.files)} - logs


def test_what_describes_an_artifact_is_not_in_its_digest(tmp_path: Path) -> None:
    manifest = make_small(tmp_path)
    assert all((tmp_path / name).is_file() for name in (PROVENANCE_FILE, BOM_FILE))
    assert not {f.path for f in digest_files(tmp_path)} & set(BESIDE_MANIFEST)
    assert digest_files(tmp_path) == manifest.files


def test_verification_changes_neither_digest_nor_fit(tmp_path: Path) -> None:
    make_small(tmp_path)
    manifest = read_manifest(tmp_path)
    write_manifest(replace(manifest, verification={"passed": True}), tmp_path)
    after = read_manifest(tmp_path)
    assert after.digest == manifest.digest
    assert not find_differences(statement_of(tmp_path), after)


def test_being_proven_on_a_device_does_not_change_the_digest() -> None:
    from tests.unit.artifact.test_hostile_manifest import manifest

    before: dict[str, Any] = {"lnc": 1, "hardware": "not run on a Neuron device"}
    one, two, other = (
        replace(manifest(), neuron=neuron).digest
        for neuron in (before, {**before, "hardware": "verified"}, {**before, "lnc": 2})
    )
    assert one == two != other


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tp": 2}, "internalParameters.tp"),
        ({"dtype": "bf16"}, "internalParameters.dtype"),
        ({"tool_versions": {"torch": "2.14"}}, "torch: the manifest says"),
        ({"request": {**REQUEST, "tp": 7}}, "externalParameters.tp"),
        ({"model": {"source": "y"}}, "externalParameters.checkpoint"),
        ({"files": ()}, "weights/config.json is a subject"),
    ],
)
def test_a_manifest_that_says_otherwise_is_found_out(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    manifest = make_small(tmp_path)
    found = find_differences(statement_of(tmp_path), replace(manifest, **change))
    assert any(told in difference for difference in found), found


def test_a_request_with_nan_cannot_be_written(tmp_path: Path) -> None:
    manifest = replace(make_small(tmp_path), request={"tp": float("nan")})
    with pytest.raises(InputError, match="cannot be written"):
        to_bytes(make_statement(manifest, INPUTS, bom_sha256="0" * 64), subject="it")


def test_inputs_without_digests_are_gaps(tmp_path: Path) -> None:
    manifest = make_small(tmp_path)
    write_documents(tmp_path, manifest, ())
    assert find_gaps(statement_of(tmp_path)) == (
        "it does not say which checkpoint the weights come from",
    )
    remote = {**INPUTS[1], "digest": {}, "annotations": {"version": "etag"}}
    write_documents(tmp_path, manifest, (INPUTS[0], remote))
    assert "1 input files have a version and no digest" in find_gaps(statement_of(tmp_path))[0]


def test_inputs_are_carried_over_and_what_they_were_carried_from_is_told(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    before = make_small(old)
    manifest = make_small(new)
    carry_provenance(old, new, manifest)
    found = dependencies_of(statement_of(new))
    assert found[:2] == list(INPUTS)
    assert found[2] == {"name": "artifact", "digest": {"neuroncManifestV1": before.digest}}
    assert not find_differences(statement_of(new), manifest)


@pytest.mark.parametrize("harm", ["missing", "damaged", "of another artifact"])
def test_inputs_that_cannot_be_trusted_are_not_carried_over(tmp_path: Path, harm: str) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    make_small(old)
    manifest = make_small(new)
    path = old / PROVENANCE_FILE
    if harm == "missing":
        path.unlink()
    elif harm == "damaged":
        path.write_text("{")
    else:
        found = json.loads(path.read_text())
        found["subject"][0]["digest"] = {"neuroncManifestV1": "0" * 64}
        path.write_text(json.dumps(found))
    carry_provenance(old, new, manifest)
    assert "does not say which checkpoint" in find_gaps(statement_of(new))[0]


def test_a_refit_says_whose_programs_it_has(tmp_path: Path) -> None:
    """`refit_of` is no wish of the user's: it stands among what the artifact was made of."""
    manifest: Manifest = make_small(tmp_path, request={**REQUEST, "refit_of": "4" * 64})
    assert "refit_of" not in definition_of(statement_of(tmp_path))["externalParameters"]
    assert not find_differences(statement_of(tmp_path), manifest)


def test_a_bundle_with_the_weights_of_a_split_names_that_split(tmp_path: Path) -> None:
    old, new, split = (tmp_path / name for name in ("old", "new", "split"))
    make_small(old)
    split.mkdir()
    write_split(split / "split.json", {"a": "1"}, {"source": "y"})
    carry_provenance(old, new, make_small(new), weights=split)
    found = {entry["name"]: entry for entry in dependencies_of(statement_of(new))}
    assert found["checkpoint"]["annotations"]["source"] == "y"
    assert found["checkpoint"]["annotations"]["license"] is None
    assert found["checkpoint/rank-0.safetensors"]["digest"] == {"sha256": "0" * 64}
    assert "checkpoint/split.json" in found
    assert "checkpoint/model.safetensors" not in found
