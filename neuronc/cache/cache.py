"""The store that a verb uses: this machine's, and behind it one behind a URL to read through."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.cache.entry import Entry
from neuronc.cache.key import Key
from neuronc.cache.local_store import LocalStore
from neuronc.cache.locks import key_lock
from neuronc.cache.remote_store import RemoteStore
from neuronc.checkpoint.remote.url import is_url, local_form
from neuronc.errors import UsageError

VARIABLE = "NEURONC_CACHE"
"""Environment variable: folder or URL of the store, where ``--cache`` says nothing."""

OFF = "off"
"""Value of ``--cache`` and the variable for no store at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Where finished work is looked for and kept.

    Attributes:
        place: As it was given: a folder or URL, so that another process can open the same.
        local: Looked at first, and the only one that is written to.
        remote: Looked at next; what it has is copied to ``local``.
    """

    place: str
    local: LocalStore
    remote: RemoteStore | None = None

    def take(self, key: Key, folder: Path) -> Entry | None:
        """Put the files of ``key`` into ``folder``; None if they were never made.

        Raises:
            InputError: the URL does not answer.
        """
        entry = self.local.take(key, folder)
        if entry is not None or self.remote is None:
            return entry
        with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
            found = self.remote.fetch(key, Path(scratch))
            if found is None:
                return None
            self.local.adopt(found, Path(scratch))
            if (entry := self.local.take(key, folder)) is not None:
                return entry
            for file in found.files:  # the store of this machine cannot be written
                shutil.copyfile(Path(scratch, file.path), folder / file.path)
            return found

    def put(
        self, key: Key, folder: Path, names: Sequence[str], facts: Mapping[str, Any]
    ) -> Entry | None:
        """Keep files of ``folder``; see `LocalStore.put`."""
        return self.local.put(key, folder, names, facts)

    @contextmanager
    def lock(self, key: Key, tell: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """One builder per key; see `key_lock`."""
        with key_lock(self.local.root, key, tell=tell):
            yield


def open_cache(place: str | None) -> Cache | None:
    """The store at ``place``, else at ``$NEURONC_CACHE``, else in the user's cache folder.

    Nothing is made until something is kept.

    Raises:
        UsageError: what is there is not a folder.
        InputError: a URL that is none.
    """
    named = place or os.environ.get(VARIABLE) or str(user_folder())
    if named == OFF:
        return None
    path = local_form(named)
    if is_url(path):
        return Cache(
            place=named, local=LocalStore(root=user_folder()), remote=RemoteStore.open(path)
        )
    root = Path(path).expanduser()
    if os.path.lexists(root) and not root.is_dir():
        message = f"the cache {root} is not a folder"
        raise UsageError(
            message, hint=f"pass a folder, a URL or {OFF!r} with --cache or {VARIABLE}"
        )
    return Cache(place=str(root.absolute()), local=LocalStore(root=root.absolute()))


def user_folder() -> Path:
    """``neuronc`` in the user's cache folder (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "neuronc"
