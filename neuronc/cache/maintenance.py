"""What is in a store, whether it is whole, and taking away what is not needed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neuronc.cache.cache import AnyStore
from neuronc.cache.entry import DamagedEntryError, Entry, place_of_digest
from neuronc.cache.key import FORMAT, KINDS, Kind
from neuronc.cache.local_store import DAMAGED, FAILED, Damage, LocalStore
from neuronc.cache.locks import LOCKS, if_free
from neuronc.cache.remote_store import RemoteStore
from neuronc.progress import SILENT, Progress

GRACE_S = 600.0
"""What was made or used less long ago stays: a build may be about to use it."""
LEFTOVER_S = 86400.0
"""What a process left behind stays for so long: it may still run, or somebody look at it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """An entry, and when it was made or taken last, in seconds since 1970; None where unknown."""

    entry: Entry
    last_used_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What is in a store.

    Attributes:
        entries: Kind by kind, those that were used last first.
        damaged: What has the place of an entry and is none.
        num_aside: Damaged entries that builds put aside.
        num_failed: Compiles that failed and are kept to be repeated.
    """

    entries: tuple[Listed, ...]
    damaged: tuple[Damage, ...]
    num_aside: int = 0
    num_failed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """Result of comparing a store with its digests.

    Attributes:
        num_entries: Compared.
        size_bytes: Of them.
        damaged: What was found.
        removed: Digests of those that were taken away.
    """

    num_entries: int
    size_bytes: int
    damaged: tuple[Damage, ...]
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What was, or would be, taken away.

    Attributes:
        removed: Entries, the least recently used first.
        leftovers: Paths below the root: damaged entries, failed compiles, locks, staging folders.
        kept_bytes: Of the entries that stay.
        kept_entries: How many.
    """

    removed: tuple[Listed, ...]
    leftovers: tuple[str, ...]
    kept_bytes: int
    kept_entries: int


def list_store(store: AnyStore, kind: Kind | None = None) -> Listing:
    """Everything that is in ``store``, or of one kind; nothing is changed.

    Raises:
        InputError: a store behind a URL does not answer.
    """
    found = list(store.scan(kind))
    entries = [one for one in found if isinstance(one, Entry)]
    damaged = tuple(one for one in found if isinstance(one, Damage))
    if isinstance(store, RemoteStore):
        listed = [Listed(entry=entry, last_used_s=None) for entry in entries]
        return Listing(entries=tuple(listed), damaged=damaged)
    listed = [Listed(entry=entry, last_used_s=store.last_used_s(entry)) for entry in entries]
    listed.sort(key=lambda one: (KINDS.index(one.entry.key.kind), -(one.last_used_s or 0)))
    return Listing(
        entries=tuple(listed),
        damaged=damaged,
        num_aside=len(_children(store.root / f"v{FORMAT}" / DAMAGED)),
        num_failed=len(_children(store.root / FAILED)),
    )


def verify_store(store: AnyStore, *, remove: bool = False, progress: Progress = SILENT) -> Verified:
    """Compare every file of every entry with its digest.

    Args:
        store: Which; one behind a URL is read whole.
        remove: Take away what is damaged; what only cannot be read stays.
        progress: Told of every entry.

    Raises:
        InputError: a store behind a URL does not answer, or a file cannot be read now.
    """
    found = list(store.scan())
    damaged = [one for one in found if isinstance(one, Damage)]
    entries = [one for one in found if isinstance(one, Entry)]
    size_bytes = sum(entry.size_bytes for entry in entries)
    with progress.stage("comparing digests", total=size_bytes, unit="bytes") as stage:
        for entry in entries:
            if (damage := _check(store, entry)) is not None:
                damaged.append(damage)
            stage.advance(entry.size_bytes, note=entry.key.digest[:12])
    taken = [one for one in damaged if remove and not one.may_be_good]
    removed = [one.digest for one in taken if _remove(store, one)]
    return Verified(
        num_entries=len(entries),
        size_bytes=size_bytes,
        damaged=tuple(damaged),
        removed=tuple(removed),
    )


def _check(store: AnyStore, entry: Entry) -> Damage | None:
    try:
        if isinstance(store, LocalStore):
            store.check(entry)
            return None
        with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
            store.copy(entry, Path(scratch))
    except DamagedEntryError as error:
        is_there = isinstance(store, RemoteStore) or (store.root / entry.place).exists()
        if is_there:  # else it was cleaned up meanwhile
            return Damage(kind=entry.key.kind, digest=entry.key.digest, why=error.message)
    return None


def _remove(store: AnyStore, damage: Damage) -> bool:
    place = place_of_digest(damage.kind, damage.digest)
    if isinstance(store, LocalStore):
        return store.remove(place)
    store.remove(place)
    return True


def collect(
    store: LocalStore,
    *,
    max_bytes: int | None = None,
    older_than_s: float | None = None,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Collected:
    """Take away entries, the least recently used first, and what was left behind.

    Safe beside builds: what was used in the last `GRACE_S`, or is being made, stays, even where
    that is more than ``max_bytes``; and an entry disappears as a whole.

    Args:
        store: Which.
        max_bytes: Of all entries together, afterwards.
        older_than_s: Entries that were not used for longer go.
        dry_run: Only say what would go.
        progress: Told of every entry.
    """
    now_s = time.time()
    listed = sorted(
        (Listed(entry=e, last_used_s=store.last_used_s(e)) for e in store.entries()),
        key=lambda one: one.last_used_s or 0.0,
    )
    total = sum(one.entry.size_bytes for one in listed)
    removed: list[Listed] = []
    with progress.stage("cleaning up", total=len(listed), unit="entries") as stage:
        for one in listed:
            stage.advance(1, note=one.entry.key.digest[:12])
            age_s = now_s - (one.last_used_s or 0.0)
            is_old = older_than_s is not None and age_s > older_than_s
            is_too_much = max_bytes is not None and total > max_bytes
            if age_s < GRACE_S or not (is_old or is_too_much):
                continue
            if dry_run or _remove_if_free(store, one.entry):
                removed.append(one)
                total -= one.entry.size_bytes
    leftovers = [path for path in _leftovers(store, now_s) if dry_run or _discard(path)]
    return Collected(
        removed=tuple(removed),
        leftovers=tuple(str(path.relative_to(store.root)) for path in leftovers),
        kept_bytes=total,
        kept_entries=len(listed) - len(removed),
    )


def _remove_if_free(store: LocalStore, entry: Entry) -> bool:
    with if_free(store.root / LOCKS / f"{entry.key.digest}.lock") as is_free:
        # taken while we cleaned: then somebody wants it
        is_unused = time.time() - store.last_used_s(entry) >= GRACE_S
        return is_free and is_unused and store.remove(entry.place)


def _leftovers(store: LocalStore, now_s: float) -> Iterator[Path]:
    """What nobody needs: put aside, failed, begun and not finished, or a lock that nobody holds."""
    damaged = (d for d in store.scan() if isinstance(d, Damage) and not d.may_be_good)
    begun = [
        path
        for kind in KINDS
        for path in (store.root / f"v{FORMAT}" / kind).glob("*/.*")
        if path.name.startswith(".")
    ]
    found = [
        *(store.root / place_of_digest(one.kind, one.digest) for one in damaged),
        *_children(store.root / f"v{FORMAT}" / DAMAGED),
        *_children(store.root / FAILED),
        *_children(store.root / LOCKS),
        *begun,
    ]
    for path in found:
        with suppress(OSError):
            if now_s - path.lstat().st_mtime > LEFTOVER_S:
                yield path


def _discard(path: Path) -> bool:
    lock = path.with_suffix(".lock") if path.parent.name == LOCKS else path / "none"
    with if_free(lock) as is_free, suppress(OSError):
        if is_free and (path.is_symlink() or not path.is_dir()):
            path.unlink()
        elif is_free:
            shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
