"""The answers of `neuronc.artifact.check` that are about trust: digests, provenance, signature."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from neuronc.artifact.answer import Answer
from neuronc.artifact.manifest import Manifest
from neuronc.checkpoint.digest import FileDigest
from neuronc.errors import InputError, ToolchainError
from neuronc.parallel.split_manifest import check_files
from neuronc.progress import Progress
from neuronc.provenance.consistent import find_differences, find_gaps
from neuronc.provenance.names import ENVELOPE_FILE, PROVENANCE_FILE
from neuronc.provenance.read import read_statement
from neuronc.provenance.signing import (
    list_unlisted,
    read_envelope,
    require_bom,
    require_signature,
)

_AGAIN = "copy the artifact again, or build it again"


def check_trust(
    folder: Path, manifest: Manifest, *, public_key: Path | None, progress: Progress
) -> tuple[Answer, ...]:
    """Digests, files that no manifest lists, provenance, signature; in this order."""
    digests = _digests(folder, manifest, progress)
    return (
        digests,
        _unlisted(folder, manifest),
        _provenance(folder, manifest),
        _signature(folder, public_key, are_compared=not digests.fault),
    )


def _digests(folder: Path, manifest: Manifest, progress: Progress) -> Answer:
    question = "every file is as the manifest says"

    def find_problem(file: FileDigest) -> str:
        try:
            check_files(folder, (file,))
        except InputError as error:
            return error.message
        return ""

    files = manifest.files
    with (
        progress.stage("comparing digests", total=len(files), unit="files") as stage,
        ThreadPoolExecutor(max_workers=4) as pool,
    ):
        problems = []
        for file, problem in zip(files, pool.map(find_problem, files), strict=True):
            problems += [problem] if problem else []
            stage.advance(1, note=file.path)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        detail = f"{len(problems)} of {len(files)} files are not: {problems[0]}{more}"
        return _damaged(question, detail)
    size = sum(file.size_bytes for file in files) / 1e6
    return Answer(question=question, verdict="yes", detail=f"{len(files)} files, {size:,.1f} MB")


def _unlisted(folder: Path, manifest: Manifest) -> Answer:
    question, found = "nothing else lies in it", list_unlisted(folder, manifest)
    if not found:
        return Answer(question=question, verdict="yes", detail="the manifest lists every file")
    detail = f"{len(found)} files are in no manifest, first {found[0]!r}; no digest covers them"
    return Answer(question=question, verdict="no", detail=detail, warns=True)


def _provenance(folder: Path, manifest: Manifest) -> Answer:
    question = "provenance is complete and fits"
    try:
        statement = read_statement(folder)
        if statement is None:
            detail = f"there is no {PROVENANCE_FILE}: an older neuronc made it"
            return Answer(question=question, verdict="no", detail=detail, warns=True)
        if differences := find_differences(statement, manifest):
            more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
            return _damaged(question, f"{PROVENANCE_FILE} does not fit: {differences[0]}{more}")
        require_bom(folder, statement, subject=PROVENANCE_FILE)
    except InputError as error:
        return _damaged(question, error.message)
    if gaps := find_gaps(statement):
        return Answer(question=question, verdict="no", detail="; ".join(gaps), warns=True)
    detail = "inputs and tools with digests or versions; the BOM is the one it names"
    return Answer(question=question, verdict="yes", detail=detail)


def _signature(folder: Path, public_key: Path | None, *, are_compared: bool) -> Answer:
    question = "signed"
    if public_key is not None:
        try:
            signed = require_signature(folder, public_key, are_compared=are_compared)
        except InputError as error:
            return _damaged(question, error.message)
        return Answer(question=question, verdict="yes", detail=f"by key {signed.key_id}, verified")
    try:
        envelope = read_envelope(folder)
    except ToolchainError as error:
        is_there = (folder / ENVELOPE_FILE).exists()
        detail = f"{error.message}; {'an' if is_there else 'no'} envelope is there"
        return Answer(question=question, verdict="not checked", detail=detail, hint=error.hint)
    except InputError as error:
        return _damaged(question, error.message)
    if envelope is None:
        return Answer(question=question, verdict="no", detail="there is no signature")
    told = ", ".join(sorted(str(keyid)[:16] for keyid in envelope.signatures)) or "nobody"
    detail = f"by {told}, as it says; --require-signature PUBKEY verifies it"
    return Answer(question=question, verdict="not checked", detail=detail)


def _damaged(question: str, detail: str) -> Answer:
    return Answer(question=question, verdict="no", detail=detail, fault="damaged", hint=_AGAIN)
