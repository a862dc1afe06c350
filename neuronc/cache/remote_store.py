"""Entries behind a URL (fsspec): the same layout as in a folder, ``entry.json`` uploaded last.

An interrupted upload leaves files that nobody looks at, since nothing says that they are whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuronc.cache.entry import DIGEST, ENTRY_FILE, Entry, entry_text, parse_entry, place_of
from neuronc.cache.key import FORMAT, KINDS, Key
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.remote.failure import NoSuchFileError, reading_url
from neuronc.checkpoint.remote.store import Store, open_store
from neuronc.checkpoint.remote.url import Url, parse_url
from neuronc.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteStore:
    """A store behind a URL.

    Attributes:
        url: Its root.
        store: The file system that reads and writes it.
    """

    url: Url
    store: Store

    @classmethod
    def open(cls, url: str) -> "RemoteStore":
        """The store at ``url``; nothing is read yet.

        Raises:
            InputError: no such kind of URL.
            ToolchainError: the library for it is not installed.
        """
        parsed = parse_url(url)
        return cls(url=parsed, store=open_store(parsed))

    def find(self, key: Key) -> Entry | None:
        """The entry of ``key``.

        Raises:
            InputError: the place does not answer, or the entry is damaged.
        """
        place = f"{place_of(key)}/{ENTRY_FILE}"
        try:
            raw = self._read(place)
        except NoSuchFileError:
            return None
        return parse_entry(raw, named=key.digest, subject=self.url.child(place).shown)

    def fetch(self, key: Key, folder: Path) -> Entry | None:
        """Copy the files of ``key`` into ``folder`` and compare their digests.

        Raises:
            InputError: the place does not answer, or the entry is damaged.
        """
        entry = self.find(key)
        if entry is None:
            return None
        for file in entry.files:
            child, target = self.url.child(f"{entry.place}/{file.path}"), folder / file.path
            with reading_url(child.shown, self.url):
                self.store.fs.get_file(child.full, str(target))
            if target.stat().st_size != file.size_bytes or sha256_file(target) != file.sha256:
                target.unlink()
                message = f"{child.shown} is not the file that was uploaded"
                raise InputError(message, hint="neuronc cache verify --remove takes it away")
        return entry

    def upload(self, entry: Entry, folder: Path) -> bool:
        """Copy ``entry``, whose files lie in ``folder``; False if it is there already.

        Raises:
            InputError: the place does not answer, or may not be written.
        """
        if self.find(entry.key) is not None:
            return False
        for file in entry.files:
            child = self.url.child(f"{entry.place}/{file.path}")
            with reading_url(child.shown, self.url, doing="write"):
                self.store.fs.makedirs(child.full.rpartition("/")[0], exist_ok=True)
                self.store.fs.put_file(str(folder / file.path), child.full)
        child = self.url.child(f"{entry.place}/{ENTRY_FILE}")
        with reading_url(child.shown, self.url, doing="write"):
            self.store.fs.pipe_file(child.full, entry_text(entry).encode())
        return True

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` away, ``entry.json`` first.

        Raises:
            InputError: the place does not answer, or may not be written.
        """
        for name in (ENTRY_FILE, *(file.path for file in entry.files)):
            child = self.url.child(f"{entry.place}/{name}")
            with reading_url(child.shown, self.url, doing="remove"):
                self.store.fs.rm_file(child.full)

    def entries(self) -> Iterator[Entry]:
        """Every entry, kind by kind.

        Raises:
            InputError: the place does not answer, or an entry is damaged.
        """
        for digest, place in self._places():
            yield parse_entry(self._read(place), named=digest, subject=self.url.child(place).shown)

    def _places(self) -> list[tuple[str, str]]:
        """Digest, and place of ``entry.json`` below the root."""
        places = []
        for kind in KINDS:
            prefix = f"v{FORMAT}/{kind}"
            child = self.url.child(prefix)
            try:
                with reading_url(child.shown, self.url):
                    found = self.store.fs.find(child.full)
            except NoSuchFileError:
                continue
            for path in sorted(found):
                *_, digest, name = str(path).split("/")
                if name == ENTRY_FILE and DIGEST.fullmatch(digest):
                    places.append((digest, f"{prefix}/{digest[:2]}/{digest}/{ENTRY_FILE}"))
        return places

    def _read(self, place: str) -> bytes:
        child = self.url.child(place)
        with reading_url(child.shown, self.url):
            return bytes(self.store.fs.cat_file(child.full))
