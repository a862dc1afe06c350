"""``entry.json``: the key of an entry, the digests of its files, and how it came to be."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronc.cache.key import FORMAT, KINDS, Key, Kind
from neuronc.checkpoint.digest import FileDigest
from neuronc.errors import InputError
from neuronc.lower.program_files import (
    COMPILED,
    EXECUTABLE,
    HLO,
    NEURON_HLO,
    SIGNATURE,
    STABLEHLO,
)

ENTRY_FILE = "entry.json"
MAX_ENTRY_BYTES = 4_000_000
DIGEST = re.compile(r"[0-9a-f]{64}")
REPORT = "verification.json"
MERGED = "merged.json"
FILES: Mapping[Kind, frozenset[str]] = {
    "lowered": frozenset({STABLEHLO, HLO, NEURON_HLO, SIGNATURE}),
    "executable": frozenset({EXECUTABLE, MERGED}),
    "neff": frozenset(COMPILED),
    "verification": frozenset({REPORT}),
}
"""What an entry of a kind may hold: nothing else comes out of a store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One finished piece of work; written last, so that what has one is whole.

    Attributes:
        key: What it was made from.
        files: Plain names beside ``entry.json``, with size and digest.
        facts: How making it went: ``created_at``, ``wall_s``, ``peak_rss_bytes``, ``neuronc``.
            Nothing depends on them.
    """

    key: Key
    files: tuple[FileDigest, ...]
    facts: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        """Of its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def place(self) -> str:
        """Its folder below a store's root, the same in every store."""
        return place_of(self.key)


def place_of(key: Key) -> str:
    """Where the entry of ``key`` lies below a store's root."""
    digest = key.digest
    return f"v{FORMAT}/{key.kind}/{digest[:2]}/{digest}"


def entry_text(entry: Entry) -> str:
    """The content of ``entry.json``."""
    told = {
        "format": FORMAT,
        "kind": entry.key.kind,
        "key": entry.key.digest,
        "inputs": dict(entry.key.inputs),
        "files": [asdict(file) for file in entry.files],
        "facts": dict(entry.facts),
    }
    return json.dumps(told, indent=1) + "\n"


def read_entry(path: Path) -> Entry:
    """The entry whose ``entry.json`` is ``path``.

    Raises:
        InputError: it is no entry, or its inputs are not those that it is named after.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_ENTRY_BYTES + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise InputError(message, hint=_REMOVE) from error
    return parse_entry(raw, named=path.parent.name, subject=str(path))


def parse_entry(raw: bytes, *, named: str, subject: str) -> Entry:
    """The entry that ``raw`` holds, which has to be the one of the digest ``named``.

    Raises:
        InputError: as `read_entry`.
    """
    try:
        if len(raw) > MAX_ENTRY_BYTES:
            message = f"more than {MAX_ENTRY_BYTES} bytes"
            raise ValueError(message)
        entry = _entry_of(json.loads(raw))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"{subject} is damaged: {error!r}"
        raise InputError(message, hint=_REMOVE) from error
    if entry.key.digest != named:
        message = f"{subject} is of the key {entry.key.digest[:16]}; its folder says {named[:16]}"
        raise InputError(message, hint=_REMOVE)
    return entry


def _entry_of(told: Any) -> Entry:
    if told["format"] != FORMAT or told["kind"] not in KINDS:
        message = f"format {told['format']!r}, kind {told['kind']!r}"
        raise ValueError(message)
    files = tuple(FileDigest(**file) for file in told["files"])
    for file in files:
        is_known = file.path in FILES[told["kind"]]
        if not is_known or type(file.size_bytes) is not int or not DIGEST.fullmatch(file.sha256):
            message = f"file {file!r}"
            raise ValueError(message)
    if not files or len({file.path for file in files}) < len(files):
        message = "no files, or one twice"
        raise ValueError(message)
    if not isinstance(told["inputs"], dict) or not isinstance(told["facts"], dict):
        message = "inputs or facts are no object"
        raise TypeError(message)
    return Entry(
        key=Key(kind=told["kind"], inputs=told["inputs"]), files=files, facts=told["facts"]
    )


_REMOVE = "neuronc cache verify --remove takes damaged entries away"
