"""How the verbs of `neuronc.cli.cache` look to people."""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from neuronc.checkpoint.paths import shown

if TYPE_CHECKING:
    from neuronc.cache.entry import Entry
    from neuronc.cache.explain_build import Part
    from neuronc.cache.maintenance import Collected, Listed, Listing

_UNITS_S = (("d", 86_400), ("h", 3600), ("min", 60))
_STATES = {"hit": "here", "remote": "behind the URL", "miss": "missing", "unknown": "?"}


def totals(listed: "Iterable[Listed]") -> dict[str, dict[str, int]]:
    """Number and bytes of entries by kind."""
    return totals_of(one.entry for one in listed)


def totals_of(entries: "Iterable[Entry]") -> dict[str, dict[str, int]]:
    """Number and bytes of ``entries`` by kind."""
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        total = found.setdefault(entry.key.kind, {"entries": 0, "size_bytes": 0})
        total["entries"] += 1
        total["size_bytes"] += entry.size_bytes
    return found


def draw_listing(place: str, listing: "Listing", console: Any) -> None:
    """A row for each entry, the totals, and what else lies in the store."""
    from rich.filesize import decimal

    from neuronc.cli.tables import draw_pairs, draw_rows

    if listing.entries:
        header = ("what", "kind", "key", "size", "age", "last used", "took")
        draw_rows(console, header, [_row(one) for one in listing.entries])
    lines = {"cache": place}
    for kind, total in totals(listing.entries).items():
        lines[kind] = f"{total['entries']} entries, {decimal(total['size_bytes'])}"
    if not listing.entries:
        lines["entries"] = "none"
    for name, count in (
        ("damaged", len(listing.damaged)),
        ("damaged, put aside", listing.num_aside),
        ("failed compiles kept", listing.num_failed),
    ):
        lines |= {name: str(count)} if count else {}
    draw_pairs(console, lines)


def draw_explained(place: str, parts: "Sequence[Part]", console: Any) -> None:
    """A row for each part of each program, and the reason of each that is missing."""
    from rich.table import Table

    table = Table()
    for title in ("program", "part", "in the cache", "why not"):
        table.add_column(title, overflow="fold")
    for part in parts:
        table.add_row(part.program, part.kind, _STATES[part.state], part.why)
    console.print(table)
    console.print(f"cache {place}")


def draw_collected(place: str, found: "Collected", console: Any, *, dry_run: bool) -> None:
    """What went, a row for each entry, and what stays."""
    from rich.filesize import decimal

    from neuronc.cli.tables import draw_pairs, draw_rows

    if found.removed:
        header = ("what", "kind", "key", "size", "age", "last used", "took")
        draw_rows(console, header, [_row(one) for one in found.removed])
    went = sum(one.entry.size_bytes for one in found.removed)
    lines = {
        "cache": place,
        "would go" if dry_run else "gone": f"{len(found.removed)} entries, {decimal(went)}",
        "leftovers": ", ".join(found.leftovers) or "none",
        "kept": f"{found.kept_entries} entries, {decimal(found.kept_bytes)}",
    }
    draw_pairs(console, lines)


def _row(one: "Listed") -> tuple[str, ...]:
    from rich.filesize import decimal

    entry, now_s = one.entry, time.time()
    took_s = entry.facts.get("wall_s")
    return (
        _what(entry),
        entry.key.kind,
        entry.key.digest[:12],
        decimal(entry.size_bytes),
        _ago(_created_s(entry), now_s),
        _ago(one.last_used_s, now_s),
        f"{took_s:.1f} s" if isinstance(took_s, int | float) else "",
    )


def _what(entry: "Entry") -> str:
    """An entry in words: what it says of itself, and what its key says."""
    inputs = entry.key.inputs
    if entry.key.kind == "lowered":
        config = inputs.get("config")
        model = config.get("model_type") if isinstance(config, dict) else None
        named = f"{inputs.get('phase')}_{inputs.get('bucket')}"
        slots = f"batch {inputs.get('batch_size')}, length {inputs.get('max_length')}"
        parts = [named, f"tp {inputs.get('tp')}", inputs.get("dtype"), model, slots]
    else:
        parts = [entry.facts.get("what")]
    extra = {"neff": "compiler", "lowered": "target", "executable": "target"}.get(entry.key.kind)
    words = ", ".join(str(part) for part in [*parts, inputs.get(extra or "")] if part is not None)
    return shown(words).strip("'\"")


def _created_s(entry: "Entry") -> float | None:
    try:
        made = datetime.fromisoformat(entry.facts["created_at"])
    except (KeyError, TypeError, ValueError):
        return None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def _ago(then_s: float | None, now_s: float) -> str:
    """``3 d``, ``5 h``, ``12 min`` or ``8 s``."""
    if not then_s:
        return ""
    elapsed_s = max(0.0, now_s - then_s)
    for unit, length_s in _UNITS_S:
        if elapsed_s >= length_s:
            return f"{elapsed_s / length_s:.0f} {unit}"
    return f"{elapsed_s:.0f} s"
