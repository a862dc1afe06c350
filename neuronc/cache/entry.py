"""``entry.json``: the key of an entry, the digests of its files, and how it came to be."""

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from neuronc.cache.key import FORMAT, Key, Kind
from neuronc.checkpoint.digest import FileDigest
from neuronc.checkpoint.paths import open_file
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

_OPTIONAL = frozenset({NEURON_HLO})
_MAX_FILE_BYTES = 2**50
_MAX_DEPTH = 32
_PASSING = (
    errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip
"""Reasons for which a file cannot be read now that say nothing of what is in it."""


class DamagedEntryError(InputError):
    """Something that has an entry's name and is not that entry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One finished piece of work; written last, so that what has one is whole.

    Attributes:
        key: What it was made from.
        files: Plain names beside ``entry.json``, with size and digest.
        facts: How making it went: ``created_at``, ``wall_s``, ``peak_rss_bytes``, ``neuronc``, and
            ``what`` it is in words. Nothing depends on them.
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
    return place_of_digest(key.kind, key.digest)


def place_of_digest(kind: Kind, digest: str) -> str:
    """Where the entry of the key with ``digest`` lies below a store's root."""
    return f"v{FORMAT}/{kind}/{digest[:2]}/{digest}"


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
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def read_entry(path: Path) -> Entry:
    """The entry whose ``entry.json`` is ``path``.

    Raises:
        DamagedEntryError: it is no entry, or its inputs are not those that it is named after.
        InputError: it cannot be read now, and may be good.
    """
    if path.is_symlink() or path.parent.is_symlink():
        message = f"{path} is a link, or lies behind one"
        raise DamagedEntryError(message, hint=REMOVE)
    try:
        with open_file(path) as file:
            raw = file.read(MAX_ENTRY_BYTES + 1)
    except InputError as error:
        raise damage_of(error) from error
    return parse_entry(raw, named=path.parent.name, subject=str(path))


def damage_of(error: InputError) -> InputError:
    """``error`` of reading a file of an entry: damage, unless the reason may pass."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _PASSING:
        return error
    return DamagedEntryError(error.message, hint=REMOVE)


def parse_entry(raw: bytes, *, named: str, subject: str) -> Entry:
    """The entry that ``raw`` holds, which has to be the one of the digest ``named``.

    Raises:
        DamagedEntryError: as `read_entry`.
    """
    try:
        if len(raw) > MAX_ENTRY_BYTES:
            message = f"more than {MAX_ENTRY_BYTES} bytes"
            raise ValueError(message)
        entry = _entry_of(json.loads(raw, parse_constant=_refuse))
        digest = entry.key.digest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{subject} is damaged: {type(error).__name__}: {str(error)[:200]}"
        raise DamagedEntryError(message, hint=REMOVE) from error
    if digest != named:
        message = f"{subject} is of the key {digest[:16]}; its folder says {named[:16]}"
        raise DamagedEntryError(message, hint=REMOVE)
    return entry


def _refuse(constant: str) -> NoReturn:
    message = f"{constant} is no JSON"
    raise ValueError(message)


def _entry_of(told: Any) -> Entry:
    kind, inputs, facts = told["kind"], told["inputs"], told["facts"]
    if type(told["format"]) is not int or told["format"] != FORMAT:
        message = f"format {told['format']!r}; expected {FORMAT}"
        raise ValueError(message)
    _check_depth(inputs)
    if any(isinstance(fact, float) and not isfinite(fact) for fact in facts.values()):
        message = "a fact is no finite number"
        raise ValueError(message)
    files = tuple(FileDigest(**file) for file in told["files"])
    _check_files(files, kind, inputs)
    return Entry(key=Key(kind=kind, inputs=inputs), files=files, facts=facts)


def _check_depth(inputs: Mapping[str, Any]) -> None:
    """Refuse what only recursion without end could compare."""
    level: list[Any] = [inputs]
    for _ in range(_MAX_DEPTH):
        nested = (value.values() if isinstance(value, dict) else value for value in level)
        level = [one for many in nested for one in many if isinstance(one, dict | list)]
    if level:
        message = f"inputs are nested deeper than {_MAX_DEPTH}"
        raise ValueError(message)


def _check_files(files: tuple[FileDigest, ...], kind: Kind, inputs: Mapping[str, Any]) -> None:
    for file in files:
        is_size = type(file.size_bytes) is int and 0 <= file.size_bytes <= _MAX_FILE_BYTES
        if file.path not in FILES[kind] or not is_size or not DIGEST.fullmatch(file.sha256):
            message = f"file {file!r}"
            raise ValueError(message)
    names = {file.path for file in files}
    needed = FILES[kind] - (_OPTIONAL if inputs.get("target") == "cpu" else frozenset())
    if len(names) < len(files) or not names >= needed:
        message = f"files {sorted(names)}; expected {sorted(needed)}, each once"
        raise ValueError(message)


REMOVE = "neuronc cache verify --remove takes damaged entries away"
