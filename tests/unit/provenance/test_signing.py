"""A signature holds for what was signed, and nothing else passes."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronc.artifact.contents import digest_files
from neuronc.artifact.manifest import read_manifest, write_manifest
from neuronc.errors import InputError, UsageError
from neuronc.provenance.keys import new_key
from neuronc.provenance.names import BESIDE_MANIFEST, BOM_FILE, ENVELOPE_FILE, PROVENANCE_FILE
from neuronc.provenance.signing import require_signature, require_signatures, sign_artifact
from neuronc.provenance.write import write_documents
from tests.unit.checkpoint.hostile import QUICK, damaged, refuse_or_accept
from tests.unit.provenance.small import INPUTS, make_small


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        new_key(folder / name)
    return folder


@pytest.fixture
def signed(keys: Path, tmp_path: Path) -> Path:
    make_small(tmp_path / "artifact")
    sign_artifact(tmp_path / "artifact", keys / "ours")
    return tmp_path / "artifact"


def redo_digests(folder: Path, **changes: Any) -> None:
    """What an attacker does who has no key: manifest, statement and BOM fit the files again."""
    manifest = replace(read_manifest(folder), files=digest_files(folder), **changes)
    write_manifest(manifest, folder)
    write_documents(folder, manifest, INPUTS)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def edit_payload(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    def apply(envelope: dict[str, Any]) -> None:
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()

    edit(folder / ENVELOPE_FILE, apply)


def test_a_signed_artifact_passes_and_says_by_whom(signed: Path, keys: Path) -> None:
    found = require_signature(signed, keys / "ours.pub")
    assert found.artifact_digest == read_manifest(signed).digest
    assert not {f.path for f in digest_files(signed)} & set(BESIDE_MANIFEST)


def test_it_is_a_dsse_envelope_around_the_very_statement(signed: Path) -> None:
    envelope = json.loads((signed / ENVELOPE_FILE).read_text())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == (signed / PROVENANCE_FILE).read_bytes()


def test_verification_recorded_later_leaves_the_signature_good(signed: Path, keys: Path) -> None:
    write_manifest(replace(read_manifest(signed), verification={"passed": True}), signed)
    require_signature(signed, keys / "ours.pub")


def test_two_keys_may_sign(signed: Path, keys: Path) -> None:
    assert sign_artifact(signed, keys / "theirs").num_signatures == 2
    for name in ("ours", "theirs"):
        require_signature(signed, keys / f"{name}.pub")
    redo_digests(signed, batch_size=1, tool_versions={"torch": "3"})
    assert sign_artifact(signed, keys / "theirs").num_signatures == 1, "the other one is void"


def test_another_key_is_told_with_both_ids(signed: Path, keys: Path) -> None:
    with pytest.raises(InputError, match=r"expected a signature of key .*theirs.pub.*; found '"):
        require_signature(signed, keys / "theirs.pub")


def test_no_signature(tmp_path: Path, keys: Path) -> None:
    make_small(tmp_path)
    with pytest.raises(InputError, match="is not signed"):
        require_signature(tmp_path, keys / "ours.pub")


def tamper_weights(folder: Path) -> None:
    (folder / "weights" / "rank-0.safetensors").write_text("weighty")


def swap_everything(folder: Path) -> None:
    tamper_weights(folder)
    redo_digests(folder)


def swap_manifest(folder: Path) -> None:
    write_manifest(replace(read_manifest(folder), dtype="bf16"), folder)


def lie_about_the_request(folder: Path) -> None:
    edit(folder / "manifest.json", lambda found: found["request"].update(tp=4))


def add_file(folder: Path) -> None:
    (folder / "weights" / "chat_template.jinja").write_text("obey")


def add_link(folder: Path) -> None:
    (folder / "weights" / "more").symlink_to("/etc")


def lose_file(folder: Path) -> None:
    (folder / "programs" / "prefill_8" / "cpu.exe").unlink()


def other_bom(folder: Path) -> None:
    edit(folder / BOM_FILE, lambda found: found.update(version=2))


def no_bom(folder: Path) -> None:
    (folder / BOM_FILE).unlink()


def other_statement(folder: Path) -> None:
    edit(folder / PROVENANCE_FILE, lambda found: found["predicate"].update(more=1))


def payload_for_tampered(folder: Path) -> None:
    edit_payload(folder, lambda found: found["predicate"].update(more=1))


def linked_envelope(folder: Path) -> None:
    path = folder / ENVELOPE_FILE
    path.rename(folder.parent / "elsewhere.json")
    path.symlink_to(folder.parent / "elsewhere.json")


def linked_weights(folder: Path) -> None:
    path = folder / "weights" / "rank-0.safetensors"
    path.rename(folder.parent / "elsewhere.bin")
    path.symlink_to(folder.parent / "elsewhere.bin")


def other_type(folder: Path) -> None:
    edit(folder / ENVELOPE_FILE, lambda found: found.update(payloadType="text/plain"))


def no_signatures(folder: Path) -> None:
    edit(folder / ENVELOPE_FILE, lambda found: found.update(signatures=[]))


def signatures_of_nothing(folder: Path) -> None:
    edit(folder / ENVELOPE_FILE, lambda found: found["signatures"][0].update(sig=""))


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (tamper_weights, "digest mismatch"),
        (swap_everything, "is about another artifact"),
        (swap_manifest, "is about another artifact"),
        (lie_about_the_request, "externalParameters.command"),
        (add_file, "chat_template.jinja', which its manifest does not list"),
        (add_link, "weights/more', which its manifest does not list"),
        (lose_file, "is missing"),
        (other_bom, "bom.cdx.json: expected sha256"),
        (no_bom, "found no such file"),
        (other_statement, "provenance.json: expected sha256"),
        (payload_for_tampered, "does not fit what it signs"),
        (linked_envelope, "a link to"),
        (linked_weights, "outside the folder"),
        (other_type, "is about 'text/plain'"),
        (no_signatures, "found no key"),
        (signatures_of_nothing, "does not fit what it signs"),
    ],
)
def test_attacks(signed: Path, keys: Path, attack: Callable[[Path], None], told: str) -> None:
    attack(signed)
    with pytest.raises(InputError, match=told) as caught:
        require_signature(signed, keys / "ours.pub")
    assert caught.value.hint


def test_a_signature_of_their_key_under_our_id_does_not_pass(signed: Path, keys: Path) -> None:
    ours = json.loads((signed / ENVELOPE_FILE).read_text())["signatures"][0]["keyid"]
    swap_everything(signed)
    (signed / ENVELOPE_FILE).unlink()
    sign_artifact(signed, keys / "theirs")
    edit(signed / ENVELOPE_FILE, lambda found: found["signatures"][0].update(keyid=ours))
    with pytest.raises(InputError, match="does not fit what it signs"):
        require_signature(signed, keys / "ours.pub")


def test_a_signature_moved_from_another_artifact_does_not_pass(
    signed: Path, keys: Path, tmp_path: Path
) -> None:
    make_small(tmp_path / "other", tool_versions={"torch": "3"})
    shutil.copyfile(signed / ENVELOPE_FILE, tmp_path / "other" / ENVELOPE_FILE)
    with pytest.raises(InputError, match="is about another artifact"):
        require_signature(tmp_path / "other", keys / "ours.pub")


@pytest.mark.parametrize(
    "attack", [tamper_weights, swap_manifest, add_file, other_bom, lie_about_the_request]
)
def test_what_is_wrong_is_not_signed(
    tmp_path: Path, keys: Path, attack: Callable[[Path], None]
) -> None:
    make_small(tmp_path)
    attack(tmp_path)
    with pytest.raises(InputError):
        sign_artifact(tmp_path, keys / "ours")
    assert not (tmp_path / ENVELOPE_FILE).exists()


def test_an_artifact_without_statement_is_not_signed(tmp_path: Path, keys: Path) -> None:
    make_small(tmp_path)
    (tmp_path / PROVENANCE_FILE).unlink()
    with pytest.raises(InputError, match=r"has no provenance\.json to sign"):
        sign_artifact(tmp_path, keys / "ours")


@QUICK
@given(data=st.data())
def test_damaged_envelopes_end_in_no_traceback(
    keys: Path, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / ENVELOPE_FILE
    if not path.exists():
        make_small(tmp_path)
        sign_artifact(tmp_path, keys / "ours")
    good = path.read_bytes()
    path.write_bytes(damaged(data, good))
    refuse_or_accept(lambda: require_signature(tmp_path, keys / "ours.pub"))
    path.write_bytes(good)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"payload": NaN}',
        '{"payload": 1, "payloadType": "x", "signatures": []}',
        '{"payload": "", "payloadType": 1, "signatures": []}',
        '{"payload": "", "payloadType": "x", "signatures": 3}',
        '{"payload": "", "payloadType": "x", "signatures": [3]}',
        '{"payload": "", "payloadType": "x", "signatures": [{"sig": "", "keyid": {}}]}',
        '{"payload": "", "payloadType": "x", "signatures": [{"sig": "\u00e9", "keyid": "a"}]}',
    ],
)
def test_what_is_no_envelope(keys: Path, tmp_path: Path, text: str) -> None:
    make_small(tmp_path)
    (tmp_path / ENVELOPE_FILE).write_text(text)
    with pytest.raises(InputError):
        require_signature(tmp_path, keys / "ours.pub")


def test_a_file_has_no_signature_to_require(tmp_path: Path, keys: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="is a file"):
        require_signatures((tmp_path / "run.json",), keys / "ours.pub")
    require_signatures((tmp_path / "run.json",), None)
