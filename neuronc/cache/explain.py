"""Why something is not in a store: the nearest entry, and what differs first."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neuronc.cache.cache import Cache
from neuronc.cache.entry import Entry
from neuronc.cache.key import Key, Kind
from neuronc.errors import FrozenError

_SHOWN = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Miss:
    """A key without an entry.

    Attributes:
        key: What was looked for.
        nearest: The entry of its kind with the fewest differences; None in a store without any.
        differences: Name, value asked for and value there, of every input that differs.
    """

    key: Key
    nearest: Entry | None
    differences: tuple[tuple[str, Any, Any], ...]

    def __str__(self) -> str:
        """The first difference in words, and how many more there are."""
        if self.nearest is None:
            return f"the store has no {self.key.kind} entry at all"
        name, here, there = self.differences[0]
        more = len(self.differences) - 1
        words = f"{name} is {_shown(here)}; nearest entry {self.nearest.key.digest[:12]} has"
        return f"{words} {_shown(there)}" + (f" (and {more} more differ)" if more else "")

    def to_dict(self) -> dict[str, object]:
        """The same in JSON terms."""
        return {
            "kind": self.key.kind,
            "key": self.key.digest,
            "nearest": None if self.nearest is None else self.nearest.key.digest,
            "differences": [{"input": n, "asked": a, "there": b} for n, a, b in self.differences],
        }


def explain(cache: Cache, key: Key) -> Miss:
    """Look for what comes nearest to ``key``, which the store lacks.

    Reads the ``entry.json`` of every entry of its kind, a few kilobytes each.

    Raises:
        InputError: a store behind a URL does not answer.
    """
    return _nearest(key, _entries(cache, key.kind))


def _entries(cache: Cache, kind: Kind) -> Iterator[Entry]:
    here = set()
    for entry in cache.local.entries(kind):
        here.add(entry.key.digest)
        yield entry
    if cache.remote is not None:
        found = cache.remote.scan(kind, without=here)
        yield from (entry for entry in found if isinstance(entry, Entry))


def _nearest(key: Key, entries: Iterable[Entry]) -> Miss:
    best: Entry | None = None
    found: list[tuple[str, Any, Any]] = []
    for entry in entries:
        differences = key.differences(entry.key)
        if differences and (best is None or len(differences) < len(found)):
            best, found = entry, differences
    return Miss(key=key, nearest=best, differences=tuple(found))


def known_bytes(cache: Cache, key: Key) -> int | None:
    """Memory that the nearest program of the same model took; None where none is kept."""
    near = _nearest(key, cache.local.entries(key.kind))
    is_same = not any(name.startswith(("config.", "program")) for name, _, _ in near.differences)
    if near.nearest is None or not is_same:
        return None
    peak = near.nearest.facts.get("peak_rss_bytes")
    return peak if type(peak) is int and peak > 0 else None


def frozen_error(cache: Cache, missing: Mapping[str, Key]) -> FrozenError:
    """The refusal to make ``missing``, the first key by program, with the reason of each."""
    reasons = [f"{name}: {explain(cache, key)}" for name, key in missing.items()]
    message = f"--frozen, and the cache {cache.shown} lacks {len(missing)} of what is needed: "
    hint = "build once without --frozen, or neuronc cache pull from where it was built"
    return FrozenError(message + "; ".join(reasons), hint=hint)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
