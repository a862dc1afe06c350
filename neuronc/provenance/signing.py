"""Signing an artifact's statement, and checking a signature before anything is loaded.

The signature is a DSSE envelope (Dead Simple Signing Envelope v1, as sigstore and in-toto use it)
around the very bytes of ``provenance.json``. It covers what the artifact is: every file but the
compiler's logs, what was asked for, the inputs, the tools and the BOM. It does not cover what
verification found, which ``neuronc verify`` may write later.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.artifact.manifest import MANIFEST_FILE, Manifest, read_manifest
from neuronc.checkpoint.paths import contained_file, shown, writing
from neuronc.errors import InputError, UsageError
from neuronc.parallel.split_manifest import check_files
from neuronc.progress import SILENT, Progress
from neuronc.provenance.consistent import find_differences
from neuronc.provenance.keys import read_private_key, read_public_key, require_library
from neuronc.provenance.names import BESIDE_MANIFEST, BOM_FILE, ENVELOPE_FILE, PROVENANCE_FILE
from neuronc.provenance.read import parse_object, parse_statement, read_bytes

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_DO_NOT_USE = "do not use this artifact: get it again from whoever signed it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """A signature that was made or verified.

    Attributes:
        artifact_digest: Of the artifact.
        key_id: Of the key.
        num_signatures: In the envelope, other keys' included.
    """

    artifact_digest: str
    key_id: str
    num_signatures: int


def sign_artifact(
    folder: Path, key: Path, *, passphrase: bytes | None = None, progress: Progress = SILENT
) -> Signed:
    """Sign the statement in ``folder``; signatures of other keys over the same bytes stay.

    Everything is compared first: what is damaged, or says something else than its manifest, gets no
    signature.

    Raises:
        InputError: a changed, missing or unlisted file, no statement, or one of another artifact;
            or the key cannot be read.
        ToolchainError: the library is not installed.
    """
    require_library()
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner(read_private_key(key, passphrase=passphrase))
    manifest = read_manifest(folder)
    path = contained_file(folder, PROVENANCE_FILE)
    if not path.is_file():
        message = f"{folder} has no {PROVENANCE_FILE} to sign"
        raise InputError(message, hint="an older neuronc made it: build it again")
    payload = read_bytes(path)
    _require_artifact(folder, manifest, payload, str(path))
    _compare(folder, manifest, progress)
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    before = read_envelope(folder)
    if before is not None and before.payload == payload:
        envelope = before
    envelope.sign(signer)
    _write(folder / ENVELOPE_FILE, envelope.to_dict())
    return Signed(
        artifact_digest=manifest.digest,
        key_id=signer.public_key.keyid,
        num_signatures=len(envelope.signatures),
    )


def require_signature(
    folder: Path, public_key: Path, *, are_compared: bool = False, progress: Progress = SILENT
) -> Signed:
    """Check that ``public_key`` signed what lies in ``folder``, to the last byte; loads nothing.

    Whoever opens the folder afterwards compares it with its manifest again, but not with the
    signature: it must not be open to writers that are not trusted.

    Args:
        folder: The artifact.
        public_key: PEM file.
        are_compared: The caller compared the files with the digests in the manifest already.
        progress: Told of the comparison.

    Raises:
        InputError: no signature, one of another key, over something else, or that does not verify;
            a changed, missing or unlisted file.
        ToolchainError: the library is not installed.
    """
    envelope, key_id = verify_envelope(folder, public_key)
    manifest = read_manifest(folder)
    _require_artifact(folder, manifest, envelope.payload, str(folder / ENVELOPE_FILE))
    if not are_compared:
        _compare(folder, manifest, progress)
    return Signed(
        artifact_digest=manifest.digest, key_id=key_id, num_signatures=len(envelope.signatures)
    )


def require_signatures(
    folders: tuple[Path, ...], public_key: Path | None, *, progress: Progress = SILENT
) -> None:
    """`require_signature` of each artifact, where the user asks for it with ``--require-signature``.

    Raises:
        UsageError: one is not an artifact's folder.
        InputError: as `require_signature`.
    """
    if public_key is None:
        return
    for folder in folders:
        if folder.is_file():
            message = f"--require-signature is about artifacts, and {folder} is a file"
            raise UsageError(message, hint="leave it out")
        require_signature(folder, public_key, progress=progress)


def verify_envelope(folder: Path, public_key: Path) -> "tuple[Envelope, str]":
    """The envelope in ``folder``, signed by ``public_key``, and the id of that key.

    The artifact is not looked at.

    Raises:
        InputError: there is none, it is damaged, or no signature in it is that key's.
    """
    key = read_public_key(public_key)
    envelope = read_envelope(folder)
    if envelope is None:
        message = f"{folder} is not signed: it has no {ENVELOPE_FILE}"
        raise InputError(message, hint="neuronc sign ARTIFACT --key FILE signs it")
    path = folder / ENVELOPE_FILE
    if envelope.payload_type != PAYLOAD_TYPE:
        message = f"{path} is about {shown(envelope.payload_type)}; expected {PAYLOAD_TYPE!r}"
        raise InputError(message, hint=_DO_NOT_USE)
    from securesystemslib.exceptions import VerificationError

    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        ids = ", ".join(shown(keyid) for keyid in list(envelope.signatures)[:4]) or "no key"
        message = f"{path}: expected a signature of key {key.keyid} ({public_key}); found {ids}"
        if key.keyid in envelope.signatures:
            message = f"{path}: the signature of key {key.keyid} does not fit what it signs"
        raise InputError(message, hint=_DO_NOT_USE) from error
    return envelope, str(key.keyid)


def read_envelope(folder: Path) -> "Envelope | None":
    """The envelope beside the manifest in ``folder``, unverified; None where there is none.

    Raises:
        InputError: it is a link out of the folder, too large, or no envelope.
        ToolchainError: the library is not installed.
    """
    require_library()
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError

    path = contained_file(folder, ENVELOPE_FILE)
    if not path.is_file():
        return None
    data = parse_object(read_bytes(path), subject=str(path))
    try:
        envelope = Envelope.from_dict(data)
        if not isinstance(envelope.payload_type, str):
            message = "payloadType is no text"
            raise TypeError(message)
    except (KeyError, ValueError, TypeError, AttributeError, FormatError) as error:
        message = f"{path} is no DSSE envelope: {type(error).__name__} {str(error)[:100]}"
        raise InputError(message, hint=_DO_NOT_USE) from error
    return envelope


def list_unlisted(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Files and links below ``folder`` that the manifest does not list, sorted."""
    listed = {*(file.path for file in manifest.files), MANIFEST_FILE, *BESIDE_MANIFEST}
    there = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return tuple(sorted({p.relative_to(folder).as_posix() for p in there} - listed))


def _require_artifact(folder: Path, manifest: Manifest, payload: bytes, subject: str) -> None:
    """Compare all but the bytes of the files with the statement ``payload``, named ``subject``."""
    statement = parse_statement(payload, subject=subject)
    if differences := find_differences(statement, manifest):
        more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
        message = f"{subject} is about another artifact than {folder}: {differences[0]}{more}"
        raise InputError(message, hint=_DO_NOT_USE)
    if unlisted := list_unlisted(folder, manifest):
        message = f"{folder} holds {unlisted[0]!r}, which its manifest does not list"
        if len(unlisted) > 1:
            message += f", and {len(unlisted) - 1} more such files"
        raise InputError(message, hint="a signature covers no such file: delete it")
    require_bom(folder, statement, subject=subject, expected={PROVENANCE_FILE: _sha256(payload)})


def _compare(folder: Path, manifest: Manifest, progress: Progress) -> None:
    with progress.stage("comparing digests with what is signed"):
        check_files(folder, manifest.files)


def require_bom(
    folder: Path,
    statement: Mapping[str, Any],
    *,
    subject: str,
    expected: Mapping[str, str] | None = None,
) -> None:
    """Check that the BOM in ``folder`` is the one that ``statement`` tells the digest of.

    Args:
        folder: The artifact.
        statement: Parsed.
        subject: What the message calls it.
        expected: sha256 of other files there, by name.

    Raises:
        InputError: it is missing, or another.
    """
    expected = dict(expected or {})
    for entry in statement["predicate"]["runDetails"]["byproducts"]:
        if entry["name"] == BOM_FILE:
            expected[BOM_FILE] = entry.get("digest", {}).get("sha256")
    for name, digest in expected.items():
        path = contained_file(folder, name)
        found = _sha256(read_bytes(path)) if path.is_file() else "no such file"
        if found != digest:
            message = f"{path}: expected sha256 {digest}, as {subject} says; found {found}"
            raise InputError(message, hint=_DO_NOT_USE)


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()


def _write(path: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(data, indent=1) + "\n"
    part = path.with_name(f"{path.name}.part")
    with writing(path, needed_bytes=len(text)):
        part.write_text(text, encoding="utf-8")
        part.replace(path)
