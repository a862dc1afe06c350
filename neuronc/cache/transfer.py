"""Entries from one store to another: those that the other side lacks."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuronc.cache.cache import AnyStore
from neuronc.cache.entry import DamagedEntryError, Entry
from neuronc.cache.key import KINDS, Kind
from neuronc.cache.local_store import Damage, LocalStore
from neuronc.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Transferred:
    """What a transfer did.

    Attributes:
        copied: Entries that the other side has now.
        there: How many it had before.
        damaged: What was found damaged, on either side, and was not copied.
    """

    copied: tuple[Entry, ...]
    there: int
    damaged: tuple[Damage, ...]

    @property
    def size_bytes(self) -> int:
        """Of what was copied."""
        return sum(entry.size_bytes for entry in self.copied)


def transfer(
    source: AnyStore,
    target: AnyStore,
    kinds: Sequence[Kind] = KINDS,
    *,
    progress: Progress = SILENT,
) -> Transferred:
    """Copy every entry of ``source`` that ``target`` lacks.

    Digests are compared when an entry is read, and of what arrived before it counts as one there.
    After an interruption the same call goes on with what is missing.

    Raises:
        InputError: a URL does not answer, or may not be written.
        OSError: a folder cannot be written.
    """
    with progress.stage("listing both sides"):
        there = {digest for kind in kinds for digest in _whole_in(target, kind)}
        named = [digest for kind in kinds for digest in source.digests(kind)]
        found = [one for kind in kinds for one in source.scan(kind, without=there)]
    damaged = [one for one in found if isinstance(one, Damage)]
    missing = [one for one in found if isinstance(one, Entry)]
    copied = []
    total = sum(entry.size_bytes for entry in missing)
    with progress.stage(f"copying to {target.shown}", total=total, unit="bytes") as stage:
        for entry in missing:
            try:
                if _copy(entry, source, target):
                    copied.append(entry)
            except DamagedEntryError as error:
                key = entry.key
                damaged.append(Damage(kind=key.kind, digest=key.digest, why=error.message))
            stage.advance(entry.size_bytes, note=entry.key.digest[:12])
    return Transferred(
        copied=tuple(copied),
        there=sum(digest in there for digest in named),
        damaged=tuple(damaged),
    )


def _whole_in(target: AnyStore, kind: Kind) -> Iterable[str]:
    """Digests of the entries that need no copy; behind a URL they are not read for it."""
    if isinstance(target, LocalStore):
        return (entry.key.digest for entry in target.entries(kind))
    return target.digests(kind)


def _copy(entry: Entry, source: AnyStore, target: AnyStore) -> bool:
    # By way of a folder of ours, since what is there may change between comparing and copying.
    with tempfile.TemporaryDirectory(prefix="neuronc-cache-") as scratch:
        source.copy(entry, Path(scratch))
        return target.write(entry, Path(scratch))
