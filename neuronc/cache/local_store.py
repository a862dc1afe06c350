"""Entries in a folder of this machine, or of a network file system.

An entry is a folder that appears by one rename, whole or not at all, and never changes. Nothing
in it is trusted for being there: digests are compared whenever it is used. A folder that cannot be
written is read all the same.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuronc.cache.entry import (
    DIGEST,
    ENTRY_FILE,
    DamagedEntryError,
    Entry,
    entry_text,
    parse_entry,
    place_of,
    place_of_digest,
    read_entry,
)
from neuronc.cache.entry_files import check_file, copy_checked, digest_of
from neuronc.cache.key import FORMAT, KINDS, Key, Kind
from neuronc.errors import InputError

DAMAGED = "damaged"
"""Folder, beside those of the kinds, of entries that were found damaged."""
FAILED = "failed"
"""Folder below the root where compiles that failed are kept, to be repeated by hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """What has the place of an entry and is none.

    Attributes:
        kind: The entry's.
        digest: Of its key, as the place is named.
        why: In words.
        may_be_good: It cannot be read now, which says nothing of what is in it.
    """

    kind: Kind
    digest: str
    why: str
    may_be_good: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalStore:
    """A store below the folder ``root``, which need not exist.

    Attributes:
        root: Its folder.
        damage: What was found damaged since the store was opened, in words.
    """

    root: Path
    damage: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What opens it again."""
        return str(self.root)

    @property
    def shown(self) -> str:
        """What people are told of where it is."""
        return str(self.root)

    def look(self, key: Key) -> Entry | None:
        """The entry of ``key``; its files are not looked at, and nothing is changed.

        Raises:
            DamagedEntryError: it is not whole.
            InputError: it cannot be read now.
        """
        path = self.root / place_of(key)
        if not os.path.lexists(path):
            return None
        try:
            return read_entry(path / ENTRY_FILE)
        except InputError:
            if not os.path.lexists(path):  # somebody cleaned meanwhile
                return None
            raise

    def find(self, key: Key) -> Entry | None:
        """`look`; but one that is damaged is put aside, and one that cannot be read is none."""
        try:
            return self.look(key)
        except InputError as error:
            self._not_used(self.root / place_of(key), error)
            return None

    def take(self, key: Key, folder: Path) -> Entry | None:
        """Copy the files of ``key`` into ``folder`` and compare their digests.

        None where there is no such entry, or a damaged one, which is put aside. Copies and no links:
        what is done to an artifact is not done to the store.

        Raises:
            OSError: ``folder`` cannot be written.
        """
        entry = self.find(key)
        if entry is None:
            return None
        place = self.root / entry.place
        try:
            self.copy(entry, folder)
        except InputError as error:
            for file in entry.files:
                (folder / file.path).unlink(missing_ok=True)
            if place.is_dir():  # else somebody cleaned meanwhile
                self._not_used(place, error)
            return None
        with suppress(OSError):  # when it was used last: what cleaning up goes by
            os.utime(place / ENTRY_FILE)
        return entry

    def fetch(self, key: Key, folder: Path) -> Entry | None:
        """`take` for who reads through this store from another: nothing is changed.

        Raises:
            DamagedEntryError: the entry, or one of its files, is damaged.
            InputError: it cannot be read now.
            OSError: ``folder`` cannot be written.
        """
        entry = self.look(key)
        if entry is not None:
            self.copy(entry, folder)
        return entry

    def copy(self, entry: Entry, folder: Path) -> None:
        """Copy the files of ``entry`` into ``folder`` and compare their digests.

        Raises:
            InputError: as `fetch`.
            OSError: ``folder`` cannot be written.
        """
        for file in entry.files:
            copy_checked(self.root / entry.place / file.path, folder / file.path, file)

    def put(
        self, key: Key, folder: Path, names: Sequence[str], facts: Mapping[str, Any]
    ) -> Entry | None:
        """Keep the files ``names`` of ``folder`` as the entry of ``key``.

        One that is there stays: another build may be reading it. A store that cannot be written,
        or a full disk, only costs the keeping: None.
        """
        digests = tuple(digest_of(folder / name) for name in names)
        entry = Entry(key=key, files=digests, facts=facts)
        return entry if self.adopt(entry, folder) else None

    def adopt(self, entry: Entry, folder: Path) -> bool:
        """`write`, and whether that went well."""
        try:
            self.write(entry, folder)
        except (OSError, InputError):
            return False
        return True

    def write(self, entry: Entry, folder: Path) -> bool:
        """Keep ``entry``, whose files lie in ``folder``; False if it is there already.

        Raises:
            InputError: the files are not those of ``entry``, or its inputs are too large or nested
                too deep.
            OSError: the store cannot be written, or the disk is full.
        """
        if self.find(entry.key) is not None:
            return False
        text = entry_text(entry).encode()
        parse_entry(text, named=entry.key.digest, subject=entry.place)  # else nobody can read it
        place = self.root / entry.place
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{place.name[:12]}.", dir=place.parent))
        try:
            for file in entry.files:
                copy_checked(folder / file.path, staging / file.path, file)
            (staging / ENTRY_FILE).write_bytes(text)
            staging.chmod(0o755)  # mkdtemp makes it private; a store may be shared
            _rename(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return True

    def digests(self, kind: Kind) -> list[str]:
        """Of the keys of all entries of ``kind``, as they are named; only listed, not read."""
        found = sorted((self.root / f"v{FORMAT}" / kind).glob("*/*"))
        return [
            path.name
            for path in found
            if DIGEST.fullmatch(path.name) and path.parent.name == path.name[:2]
        ]

    def scan(
        self, kind: Kind | None = None, *, without: AbstractSet[str] = frozenset()
    ) -> Iterator[Entry | Damage]:
        """Everything that has the place of an entry, but for the digests ``without``.

        Nothing is changed.
        """
        for one in KINDS if kind is None else (kind,):
            for digest in self.digests(one):
                if digest in without:
                    continue
                path = self.root / place_of_digest(one, digest)
                try:
                    yield read_entry(path / ENTRY_FILE)
                except InputError as error:
                    if os.path.lexists(path):
                        may_be_good = not isinstance(error, DamagedEntryError)
                        yield Damage(
                            kind=one, digest=digest, why=error.message, may_be_good=may_be_good
                        )

    def entries(self, kind: Kind | None = None) -> Iterator[Entry]:
        """Every entry, or those of one kind, without what is damaged."""
        return (found for found in self.scan(kind) if isinstance(found, Entry))

    def check(self, entry: Entry) -> None:
        """Compare every file of ``entry`` with its digest.

        Raises:
            DamagedEntryError: one is missing or another.
            InputError: one cannot be read now.
        """
        for file in entry.files:
            check_file(self.root / entry.place / file.path, file)

    def last_used_s(self, entry: Entry) -> float:
        """When ``entry`` was made or taken last, in seconds since 1970; 0 if it is gone."""
        with suppress(OSError):
            return (self.root / entry.place / ENTRY_FILE).stat().st_mtime
        return 0.0

    def remove(self, place: str) -> bool:
        """Take the entry at ``place`` away, as a whole; whether it is gone."""
        path = self.root / place
        with suppress(OSError):
            gone = Path(tempfile.mkdtemp(prefix=f".gone.{path.name[:12]}.", dir=path.parent))
            with suppress(OSError):
                path.rename(gone / path.name)
            shutil.rmtree(gone, ignore_errors=True)
        return not os.path.lexists(path)

    def _not_used(self, path: Path, error: InputError) -> None:
        is_damaged = isinstance(error, DamagedEntryError)
        what = "was damaged" if is_damaged else "cannot be read"
        self.damage.append(f"cache entry {path.name[:16]} {what} and is not used: {error.message}")
        if is_damaged:
            self._put_aside(path)

    def _put_aside(self, path: Path) -> None:
        aside = self.root / f"v{FORMAT}" / DAMAGED
        with suppress(OSError):
            aside.mkdir(exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=f"{path.name[:16]}.", dir=aside))
            try:
                path.rename(place / path.name)
            finally:
                with suppress(OSError):  # where another process was faster
                    place.rmdir()


def _rename(staging: Path, place: Path) -> None:
    try:
        staging.rename(place)
    except OSError:
        if not _is_whole(place):
            raise  # else it is another build's, as good as ours


def _is_whole(place: Path) -> bool:
    try:
        read_entry(place / ENTRY_FILE)
    except InputError:
        return False
    return True
