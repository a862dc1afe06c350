"""Entries in a folder of this machine, or of a network file system.

An entry is a folder that appears by one rename, whole or not at all, and never changes. Nothing
in it is trusted for being there: digests are compared whenever it is used. A folder that cannot be
written is read all the same.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuronc.cache.entry import ENTRY_FILE, Entry, entry_text, place_of, read_entry
from neuronc.cache.key import FORMAT, KINDS, Key, Kind
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.errors import InputError

DAMAGED = "damaged"
"""Folder, beside those of the kinds, of entries that were found damaged; `collect` empties it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalStore:
    """A store below the folder ``root``, which need not exist.

    Attributes:
        root: Its folder.
        damage: What was found damaged since the store was opened, in words.
    """

    root: Path
    damage: list[str] = field(default_factory=list)

    def find(self, key: Key) -> Entry | None:
        """The entry of ``key``; its files are not looked at. A damaged one is put aside."""
        path = self.root / place_of(key)
        if not (path / ENTRY_FILE).is_file():
            return None
        try:
            return read_entry(path / ENTRY_FILE)
        except InputError as error:
            self._put_aside(path, error.message)
            return None

    def take(self, key: Key, folder: Path) -> Entry | None:
        """Copy the files of ``key`` into ``folder`` and compare their digests.

        None where there is no such entry, or a damaged one, which is put aside. Copies and no links:
        what is done to an artifact is not done to the store.
        """
        entry = self.find(key)
        if entry is None:
            return None
        place = self.root / entry.place
        try:
            for file in entry.files:
                _copy_checked(place / file.path, folder / file.path, file)
        except (OSError, InputError) as error:
            for file in entry.files:
                (folder / file.path).unlink(missing_ok=True)
            if place.is_dir():  # else somebody cleaned meanwhile
                self._put_aside(place, str(error))
            return None
        with suppress(OSError):  # when it was used last: what `collect` goes by
            os.utime(place / ENTRY_FILE)
        return entry

    def put(
        self, key: Key, folder: Path, names: Sequence[str], facts: Mapping[str, Any]
    ) -> Entry | None:
        """Keep the files ``names`` of ``folder`` as the entry of ``key``.

        One that is there stays: another build may be reading it. A store that cannot be written,
        or a full disk, only costs the keeping: None.
        """
        digests = tuple(_digest_of(folder / name) for name in names)
        entry = Entry(key=key, files=digests, facts=facts)
        return entry if self.adopt(entry, folder) else None

    def adopt(self, entry: Entry, folder: Path) -> bool:
        """Keep ``entry``, whose files lie in ``folder``; whether it is kept, by us or before us."""
        place = self.root / entry.place
        if self.find(entry.key) is not None:
            return True
        staging: Path | None = None
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{place.name[:12]}.", dir=place.parent))
            for file in entry.files:
                _copy_checked(folder / file.path, staging / file.path, file)
            (staging / ENTRY_FILE).write_text(entry_text(entry), encoding="utf-8")
            staging.chmod(0o755)  # mkdtemp makes it private; a store may be shared
            with suppress(OSError):  # another build's, whole as ours
                staging.rename(place)
        except OSError:
            return False
        finally:
            if staging is not None:
                shutil.rmtree(staging, ignore_errors=True)
        return (place / ENTRY_FILE).is_file()

    def entries(self, kind: Kind | None = None) -> Iterator[Entry]:
        """Every entry, or those of one kind; damaged ones are put aside."""
        for one in KINDS if kind is None else (kind,):
            for path in sorted((self.root / f"v{FORMAT}" / one).glob("*/*/entry.json")):
                if path.parent.name.startswith("."):
                    continue
                try:
                    yield read_entry(path)
                except InputError as error:
                    if path.exists():
                        self._put_aside(path.parent, error.message)

    def check(self, entry: Entry) -> None:
        """Compare every file of ``entry`` with its digest.

        Raises:
            InputError: one is missing or another.
        """
        for file in entry.files:
            path = self.root / entry.place / file.path
            if path.is_symlink() or sha256_file(path) != file.sha256:
                message = f"{path} is not the file that was kept"
                raise InputError(message, hint="neuronc cache verify --remove takes it away")

    def remove(self, entry: Entry) -> bool:
        """Take ``entry`` away, as a whole; whether it is gone."""
        return self._take_away(self.root / entry.place)

    def _put_aside(self, path: Path, why: str) -> None:
        self.damage.append(f"cache entry {path.name[:16]} was damaged and is not used: {why}")
        aside = self.root / f"v{FORMAT}" / DAMAGED
        with suppress(OSError):
            aside.mkdir(exist_ok=True)
            path.rename(Path(tempfile.mkdtemp(prefix=f"{path.name[:16]}.", dir=aside)) / path.name)

    def _take_away(self, path: Path) -> bool:
        gone = path.with_name(f".gone.{path.name}")
        with suppress(OSError):
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        return not path.exists()


def _digest_of(path: Path) -> FileDigest:
    return FileDigest(path=path.name, size_bytes=path.stat().st_size, sha256=sha256_file(path))


def _copy_checked(source: Path, target: Path, file: FileDigest) -> None:
    if source.is_symlink():
        message = f"{file.path} is a link"
        raise InputError(message)
    shutil.copyfile(source, target)
    if target.stat().st_size != file.size_bytes or sha256_file(target) != file.sha256:
        message = f"{file.path} is not the file that was kept"
        raise InputError(message)
