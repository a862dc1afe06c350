"""Entries behind a URL (fsspec): the same layout as in a folder, ``entry.json`` uploaded last.

An interrupted upload leaves files that nobody looks at, since nothing says that they are whole.
"""

import tempfile
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from neuronc.cache.entry import (
    DIGEST,
    ENTRY_FILE,
    REMOVE,
    DamagedEntryError,
    Entry,
    entry_text,
    parse_entry,
    place_of_digest,
)
from neuronc.cache.key import FORMAT, KINDS, Key, Kind
from neuronc.cache.local_store import Damage
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.remote.failure import NoSuchFileError, reading_url
from neuronc.checkpoint.remote.mirror import in_parallel
from neuronc.checkpoint.remote.store import Store, open_store
from neuronc.checkpoint.remote.url import Url, parse_url

_BUCKETS = ("s3", "s3a", "gs", "gcs")
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStore:
    """A store behind a URL.

    Attributes:
        url: Its root.
        store: The file system that reads and writes it.
    """

    url: Url
    store: Store

    @property
    def address(self) -> str:
        """What opens it again; holds the URL's secrets."""
        return self.url.full

    @property
    def shown(self) -> str:
        """What people are told of where it is: the URL without secrets."""
        return self.url.shown

    @classmethod
    def open(cls, url: str) -> "RemoteStore":
        """The store at ``url``; nothing is read yet.

        Raises:
            InputError: no such kind of URL.
            ToolchainError: the library for it is not installed.
        """
        parsed = parse_url(url)
        return cls(url=parsed, store=open_store(parsed, fixed=False))

    def require_reachable(self) -> None:
        """Ask for something small, so that what is wrong with the place is told before any work.

        Raises:
            InputError: it does not answer, is denied, or there is no such bucket or repository.
        """
        if self.url.scheme in _BUCKETS:
            bucket = Url(scheme=self.url.scheme, place=self.url.place, path="")
            with reading_url(bucket.shown, self.url):
                self.store.fs.info(bucket.full)
        elif self.url.scheme == "hf":
            with reading_url(self.url.shown, self.url):
                self.store.fs.resolve_path(self.url.full.removeprefix("hf://"))
        else:
            self._absent_or_read(f"v{FORMAT}/reachable")

    def find(self, key: Key) -> Entry | None:
        """The entry of ``key``.

        Raises:
            DamagedEntryError: it is damaged.
            InputError: the place does not answer.
        """
        return self._find(key.kind, key.digest)

    def fetch(self, key: Key, folder: Path) -> Entry | None:
        """Copy the files of ``key`` into ``folder`` and compare their digests.

        Raises:
            DamagedEntryError: the entry, or one of its files, is damaged; what is in ``folder`` by
                then is not to be used.
            InputError: the place does not answer.
        """
        entry = self.find(key)
        if entry is not None:
            self.copy(entry, folder)
        return entry

    def copy(self, entry: Entry, folder: Path) -> None:
        """Copy the files of ``entry`` into ``folder`` and compare their digests.

        Raises:
            InputError: as `fetch`.
        """
        for file in entry.files:
            self._copy(entry, file, folder / file.path)

    def write(self, entry: Entry, folder: Path) -> bool:
        """Copy ``entry``, whose files lie in ``folder``; False if it is there already.

        What arrived is read back and compared, before ``entry.json`` makes it an entry.

        Raises:
            DamagedEntryError: what is there, or arrived, is damaged.
            InputError: the place does not answer, or may not be written.
        """
        if self.find(entry.key) is not None:
            return False
        for file in entry.files:
            child = self._child(entry.place, file.path)
            with reading_url(child.shown, self.url, doing="write"):
                if self.url.scheme not in (*_BUCKETS, "hf"):  # these have no folders to make
                    self.store.fs.makedirs(child.full.rpartition("/")[0], exist_ok=True)
                self.store.fs.put_file(str(folder / file.path), child.full)
            with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
                self._copy(entry, file, Path(scratch, file.path))
        child = self._child(entry.place, ENTRY_FILE)
        with reading_url(child.shown, self.url, doing="write"):
            self.store.fs.pipe_file(child.full, entry_text(entry).encode())
        return True

    def remove(self, place: str) -> None:
        """Take the entry at ``place`` away, ``entry.json`` first.

        Raises:
            InputError: the place does not answer, or may not be written.
        """
        folder = self.url.child(place)
        with reading_url(folder.shown, self.url, doing="remove"):
            found = [str(path).rpartition("/")[2] for path in self.store.fs.find(folder.full)]
        for name in sorted(found, key=lambda name: name != ENTRY_FILE):
            child = self._child(place, name)
            with reading_url(child.shown, self.url, doing="remove"):
                self.store.fs.rm_file(child.full)

    def digests(self, kind: Kind) -> list[str]:
        """Of the keys of all entries of ``kind``, as they are named; only listed, not read.

        Raises:
            InputError: the place does not answer.
        """
        child = self.url.child(f"v{FORMAT}/{kind}")
        try:
            with reading_url(child.shown, self.url):
                found = self.store.fs.find(child.full)
        except NoSuchFileError:
            return []
        places = [str(path).split("/")[-3:] for path in sorted(found)]
        return [
            digest
            for _, digest, name in (place for place in places if len(place) == 3)
            if name == ENTRY_FILE and DIGEST.fullmatch(digest)
        ]

    def scan(
        self, kind: Kind | None = None, *, without: AbstractSet[str] = frozenset()
    ) -> Iterator[Entry | Damage]:
        """Everything that has the place of an entry, but for the digests ``without``.

        Raises:
            InputError: the place does not answer.
        """
        for one in KINDS if kind is None else (kind,):
            digests = [digest for digest in self.digests(one) if digest not in without]
            for begin in range(0, len(digests), _AT_ONCE):
                asked = [(one, digest) for digest in digests[begin : begin + _AT_ONCE]]
                found = in_parallel(self._found, asked)
                yield from (entry for entry in found if entry is not None)

    def _found(self, asked: tuple[Kind, str]) -> Entry | Damage | None:
        try:
            return self._find(*asked)
        except DamagedEntryError as error:
            return Damage(kind=asked[0], digest=asked[1], why=error.message)

    def _find(self, kind: Kind, digest: str) -> Entry | None:
        place = f"{place_of_digest(kind, digest)}/{ENTRY_FILE}"
        raw = self._absent_or_read(place)
        if raw is None:
            return None
        return parse_entry(raw, named=digest, subject=self.url.child(place).shown)

    def _copy(self, entry: Entry, file: FileDigest, target: Path) -> None:
        child = self._child(entry.place, file.path)
        try:
            with reading_url(child.shown, self.url):
                self.store.fs.get_file(child.full, str(target))
        except NoSuchFileError as error:
            raise DamagedEntryError(error.message, hint=REMOVE) from error
        if target.stat().st_size != file.size_bytes or sha256_file(target) != file.sha256:
            message = f"{child.shown} is not the file that was uploaded"
            raise DamagedEntryError(message, hint=REMOVE)

    def _child(self, place: str, name: str) -> Url:
        return self.url.child(f"{place}/{name}")

    def _absent_or_read(self, place: str) -> bytes | None:
        child = self.url.child(place)
        try:
            with reading_url(child.shown, self.url):
                return bytes(self.store.fs.cat_file(child.full))
        except NoSuchFileError:
            return None
