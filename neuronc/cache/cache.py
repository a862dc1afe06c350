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
from neuronc.checkpoint.remote.url import is_url, local_form, without_secrets
from neuronc.errors import InputError, UsageError

VARIABLE = "NEURONC_CACHE"
"""Environment variable: what holds where ``--cache`` says nothing."""

REMOTE_VARIABLE = "NEURONC_CACHE_REMOTE"
"""Environment variable: URL of the store to read through, whichever folder is used."""

OFF = "off"
"""Value of ``--cache`` and the variable for no store at all."""


AnyStore = LocalStore | RemoteStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Where finished work is looked for and kept.

    Attributes:
        local: Looked at first, and the only one that is written to.
        remote: Looked at next, behind a URL or in another folder; what it has is copied to
            ``local``.
    """

    local: LocalStore
    remote: AnyStore | None = None

    @property
    def address(self) -> dict[str, str | None]:
        """Arguments of `open_stores`, for another process; may hold a URL's secrets."""
        behind = None if self.remote is None else self.remote.address
        return {"folder": self.local.address, "behind": behind}

    @property
    def shown(self) -> str:
        """What people are told of where it is."""
        behind = "" if self.remote is None else f" (and {self.remote.shown})"
        return f"{self.local.shown}{behind}"

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
            except InputError as error:
                is_unusable = isinstance(error, DamagedEntryError)
                if not is_unusable and isinstance(self.remote, RemoteStore):
                    raise  # the place, not the entry, has a problem
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
    named = _named(place)
    if named == OFF:
        return None
    if is_url(named):
        return Cache(local=open_folder(_own_folder()), remote=open_answering(named))
    behind = os.environ.get(REMOTE_VARIABLE) or OFF
    remote = None if behind == OFF else open_answering(behind)
    return Cache(local=open_folder(named), remote=remote)


def open_folder_named(place: str | None) -> LocalStore:
    """The folder that ``--cache`` and the environment name, as `open_cache` finds it.

    Raises:
        UsageError: they name a URL, no store at all, or something that is not a folder.
    """
    named = _named(place)
    if named == OFF or is_url(named):
        message = f"this is for a cache in a folder, and the cache is {without_secrets(named)}"
        raise UsageError(message, hint=f"pass --cache DIR, or set {VARIABLE} to a folder")
    return open_folder(named)


def open_place(place: str | None) -> AnyStore:
    """The one store that ``--cache`` and the environment name: the folder or the URL.

    Raises:
        UsageError: they name no store at all, or something that is not a folder.
        InputError: a URL that is none, or does not answer.
        ToolchainError: the library for the URL is not installed.
    """
    named = _named(place)
    return open_answering(named) if is_url(named) else open_folder_named(place)


def open_answering(place: str) -> AnyStore:
    """The store in the folder or behind the URL ``place``; a URL has to answer.

    Raises:
        UsageError: what is there is not a folder.
        InputError: a URL that is none, or does not answer.
        ToolchainError: the library for the URL is not installed.
    """
    store = _open(place)
    if isinstance(store, RemoteStore):
        store.require_reachable()
    return store


def open_stores(folder: str, behind: str | None) -> Cache:
    """The cache that `Cache.address` describes; nothing is read yet.

    Raises:
        NeuroncError: as `open_answering`, but for what is found by asking.
    """
    return Cache(local=open_folder(folder), remote=None if behind is None else _open(behind))


def _open(place: str) -> AnyStore:
    path = local_form(place)
    return RemoteStore.open(path) if is_url(path) else open_folder(path)


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


def _named(place: str | None) -> str:
    return local_form(place or os.environ.get(VARIABLE) or str(user_folder()))


def _own_folder() -> str:
    named = local_form(os.environ.get(VARIABLE) or OFF)
    return str(user_folder()) if named == OFF or is_url(named) else named


def user_folder() -> Path:
    """``neuronc`` in the user's cache folder (XDG base directory specification)."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    # the specification: a path that is not absolute is to be ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "neuronc"
