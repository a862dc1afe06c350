"""``provenance.json`` with anything in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.artifact.manifest import read_manifest
from neuronc.errors import InputError
from neuronc.provenance import read
from neuronc.provenance.bom import make_bom
from neuronc.provenance.consistent import find_differences, find_gaps
from neuronc.provenance.names import PROVENANCE_FILE
from neuronc.provenance.read import dependencies_of, read_statement
from tests.unit.checkpoint.hostile import JSON_VALUES, QUICK, damaged, refuse_or_accept
from tests.unit.provenance.small import make_small


def use(folder: Path) -> None:
    """All that is done with a statement."""
    found = read_statement(folder)
    assert found is not None
    manifest = read_manifest(folder)
    find_differences(found, manifest)
    find_gaps(found)
    make_bom(manifest, dependencies_of(found))


@QUICK
@given(data=st.data())
def test_any_value_anywhere_ends_in_no_traceback(tmp_path: Path, data: st.DataObject) -> None:
    make_small(tmp_path)
    path = tmp_path / PROVENANCE_FILE
    found = json.loads(path.read_text())
    place: Any = found
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    place[key] = data.draw(JSON_VALUES)
    path.write_text(json.dumps(found))
    refuse_or_accept(lambda: use(tmp_path))


@QUICK
@given(data=st.data())
def test_damaged_bytes_end_in_no_traceback(tmp_path: Path, data: st.DataObject) -> None:
    make_small(tmp_path)
    path = tmp_path / PROVENANCE_FILE
    path.write_bytes(damaged(data, path.read_bytes()))
    refuse_or_accept(lambda: use(tmp_path))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"_type": NaN}', "NaN is no JSON number"),
        ('{"_type": "a", "_type": "b"}', "a key stands twice"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "holds a JSON list"),
        ('{"_type": "https://in-toto.io/Statement/v0.1"}', "_type is"),
        ('{"_type": "\\ud800"}', "not valid JSON"),
    ],
)
def test_what_readers_would_read_differently_is_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / PROVENANCE_FILE).write_text(text)
    with pytest.raises(InputError, match=told):
        read_statement(tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        {"digest": {"sha256": 3}},
        {"digest": []},
        {"uri": ["pkg:pypi/x"]},
        {"annotations": {"license": ["mit"]}},
        {"annotations": {"base_models": "org/base"}},
        {"annotations": {"base_models": [1]}},
        {"name": None},
    ],
)
def test_descriptors_of_wrong_types_are_refused(tmp_path: Path, harm: dict[str, Any]) -> None:
    make_small(tmp_path)
    path = tmp_path / PROVENANCE_FILE
    found = json.loads(path.read_text())
    found["predicate"]["buildDefinition"]["resolvedDependencies"][0].update(harm)
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match="expected a list of descriptors"):
        read_statement(tmp_path)


def test_a_huge_statement_is_refused_without_reading_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 1000)
    with (tmp_path / PROVENANCE_FILE).open("wb") as file:
        file.truncate(10**12)  # a sparse file: reading it would take all memory
    with pytest.raises(InputError, match="more than 1000 bytes"):
        read_statement(tmp_path)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    make_small(tmp_path / "theirs")
    make_small(tmp_path / "ours")
    path = tmp_path / "ours" / PROVENANCE_FILE
    path.unlink()
    path.symlink_to(tmp_path / "theirs" / PROVENANCE_FILE)
    with pytest.raises(InputError, match="a link to"):
        read_statement(tmp_path / "ours")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE_FILE).mkdir()
    with pytest.raises(InputError, match="is not a file"):
        read_statement(tmp_path)


def test_no_statement_is_none(tmp_path: Path) -> None:
    assert read_statement(tmp_path) is None
