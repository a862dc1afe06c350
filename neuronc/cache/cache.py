"""The store that a verb uses: this machine's, and behind it one behind a URL to read through."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.cache.entry import DamagedEntryError, Entry
from neuronc.cache.key import Key
from neuronc.cache.local_store import LocalStore
from neuronc.cache.locks import key_lock
from neuronc.cache.remote_store import RemoteStore
from neuronc.checkpoint.remote.url import is_url, local_form
from neuronc.errors import UsageError

VARIABLE = "NEURONC_CACHE"
"""Environment variable: what holds where ``--cache`` says nothing."""

REMOTE_VARIABLE = "NEURONC_CACHE_REMOTE"
"""Environment variable: URL of the store to read through, whichever folder is used."""

OFF = "off"
"""Value of ``--cache`` and the variable for no store at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Where finished work is looked for and kept.

    Attributes:
        local: Looked at first, and the only one that is written to.
        remote: Looked at next; what it has is copied to ``local``.
    """

    local: LocalStore
    remote: RemoteStore | None = None

    @property
    def address(self) -> dict[str, str | None]:
        """Arguments of `open_stores`, for another process; may hold a URL's secrets."""
        url = None if self.remote is None else self.remote.url.full
        return {"folder": str(self.local.root), "url": url}

    @property
    def shown(self) -> str:
        """What people are told of where it is."""
        behind = "" if self.remote is None else f" (and {self.remote.url.shown})"
        return f"{self.local.root}{behind}"

    @property
    def damage(self) -> tuple[str, ...]:
        """What was found damaged since the store was opened, in words."""
        return tuple(dict.fromkeys(self.local.damage))

    def take(self, key: Key, folder: Path) -> Entry | None:
        """Put the files of ``key`` into ``folder``; None if they were never made.

        A damaged entry is none, wherever it is; `damage` tells of it.

        Raises:
            InputError: the URL does not answer.
            OSError: ``folder`` cannot be written.
        """
        entry = self.local.take(key, folder)
        if entry is not None or self.remote is None:
            return entry
        with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
            try:
                found = self.remote.fetch(key, Path(scratch))
            except DamagedEntryError as error:
                self.local.damage.append(f"{error.message}, and is not used")
                return None
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
    """The store that ``--cache`` and the environment name; None where they say ``off``.

    ``place``, else ``$NEURONC_CACHE``, is a folder, a URL or ``off``; the user's cache folder where
    neither says anything. Behind a folder is ``$NEURONC_CACHE_REMOTE``, if that is set. A URL is
    read through ``$NEURONC_CACHE`` where that is a folder, else through the user's cache folder.
    Nothing is made until something is kept.

    Raises:
        UsageError: what is there is not a folder.
        InputError: a URL that is none, or does not answer.
        ToolchainError: the library for the URL is not installed.
    """
    named = local_form(place or os.environ.get(VARIABLE) or str(user_folder()))
    if named == OFF:
        return None
    if is_url(named):
        cache = open_stores(_own_folder(), named)
    else:
        behind = os.environ.get(REMOTE_VARIABLE)
        cache = open_stores(named, None if behind in (None, "", OFF) else behind)
    if cache.remote is not None:
        cache.remote.require_reachable()
    return cache


def open_stores(folder: str, url: str | None) -> Cache:
    """The store in ``folder`` with the one at ``url`` behind it; nothing is read yet.

    Raises:
        UsageError: ``folder`` is something else.
        InputError: a URL that is none.
        ToolchainError: the library for it is not installed.
    """
    remote = None if url is None else RemoteStore.open(url)
    return Cache(local=open_folder(folder), remote=remote)


def open_folder(folder: str) -> LocalStore:
    """The store in ``folder``, which need not exist.

    Raises:
        UsageError: something else is there.
    """
    root = Path(folder).expanduser()
    if os.path.lexists(root) and not root.is_dir():
        message = f"the cache {root} is not a folder"
        raise UsageError(
            message, hint=f"pass a folder, a URL or {OFF!r} with --cache or {VARIABLE}"
        )
    return LocalStore(root=root.absolute())


def _own_folder() -> str:
    named = local_form(os.environ.get(VARIABLE) or OFF)
    return str(user_folder()) if named == OFF or is_url(named) else named


def user_folder() -> Path:
    """``neuronc`` in the user's cache folder (XDG base directory specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # the specification: a path that is not absolute is to be ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "neuronc"
