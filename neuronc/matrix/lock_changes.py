"""What differs between a lock and what would be built now, and the lock to write then."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from neuronc.errors import InputError
from neuronc.matrix.inputs import Input
from neuronc.matrix.lock import Lock, LockedCell, made_on

if TYPE_CHECKING:
    from neuronc.artifact.manifest import Manifest

_SHOWN = 5


def update(there: Lock | None, here: Lock, names: Sequence[str]) -> Lock:
    """The lock to write: ``here``, and of ``there`` what it says of the file's other cells.

    An artifact's digest is kept while all that it was made of is the same, and dropped otherwise.

    Args:
        there: The lock so far.
        here: What `resolve` found for some of the cells.
        names: Every cell of the file; others are forgotten.
    """
    before = there or Lock(tools=here.tools, inputs={}, cells={})
    entries = {**before.cells, **here.cells}
    cells = {name: entries[name] for name in names if name in entries}
    used = {key for cell in cells.values() for key in (cell.checkpoint, cell.adapter)}
    inputs = {k: v for k, v in {**before.inputs, **here.inputs}.items() if k in used}
    found = Lock(tools=here.tools, inputs=inputs, cells=cells)
    kept = {
        name: before.cells[name]
        for name in cells
        if before.tools == here.tools and not _cell_differences(name, before, found)
    }
    return replace(found, cells={name: kept.get(name, _unmade(cells[name])) for name in cells})


def with_artifact(lock: Lock, name: str, manifest: "Manifest") -> Lock:
    """``lock`` that has the artifact of cell ``name``."""
    made = replace(lock.cells[name], artifact_digest=manifest.digest, made_on=made_on(manifest))
    return replace(lock, cells={**lock.cells, name: made})


def _unmade(cell: LockedCell) -> LockedCell:
    return replace(cell, artifact_digest=None, made_on={})


def require_same(there: Lock, here: Lock, names: Sequence[str], *, subject: str) -> None:
    """Refuse to build ``here`` where it is not what ``there`` says.

    Args:
        there: The lock file's.
        here: What `resolve` found for the cells that are to be built.
        names: Every cell of the recipe file.
        subject: The lock file, for the message.

    Raises:
        InputError: it says what differs.
    """
    found = [
        f"{tool} was {there.tools.get(tool)}, is {version}"
        for tool, version in here.tools.items()
        if there.tools.get(tool) != version
    ]
    found += [f"build {name!r} is no more" for name in there.cells if name not in names]
    for name in here.cells:
        found += [text for text in _cell_differences(name, there, here) if text not in found]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        message = f"{subject} does not describe this build: {'; '.join(found[:_SHOWN])}{more}"
        raise InputError(message, hint="if that is meant, write it anew with --update-lock")


def digest_difference(locked: LockedCell, manifest: "Manifest") -> str:
    """Why an artifact may differ from the one in the lock; empty if it is the same, or the first."""
    if locked.artifact_digest in (None, manifest.digest):
        return ""
    told = f"artifact digest is {manifest.digest[:16]}, in the lock {locked.artifact_digest:.16}"
    here = made_on(manifest)
    other = [key for key, value in here.items() if locked.made_on.get(key) != value]
    if not other:
        return f"{told}: made of the same inputs with the same tools, so something is not fixed"
    return f"{told}: that one was made with another {' and '.join(other)}"


def _cell_differences(name: str, there: Lock, here: Lock) -> list[str]:
    """What is another for cell ``name`` of ``here``, a phrase each."""
    old, new = there.cells.get(name), here.cells[name]
    if old is None:
        return [f"build {name!r} is not in it"]
    found = [
        f"build {name!r}: {key} was {old.options.get(key)!r}, is {new.options.get(key)!r}"
        for key in sorted(old.options.keys() | new.options.keys())
        if old.options.get(key) != new.options.get(key)
    ]
    for what in ("checkpoint", "adapter"):
        before, now = getattr(old, what), getattr(new, what)
        if before != now:
            found.append(f"build {name!r}: {what} was {before!r}, is {now!r}")
        elif now is not None:
            found += _file_differences(now, there.inputs[now], here.inputs[now])
    return found


def _file_differences(key: str, old: Input, new: Input) -> list[str]:
    found = []
    if old.revision != new.revision:
        found.append(f"{key}: commit was {old.revision}, is {new.revision}")
    before = {file.path: file for file in old.files}
    now = {file.path: file for file in new.files}
    for path in sorted(before.keys() | now.keys()):
        if path not in now or path not in before:
            found.append(f"{key}: {path} is {'gone' if path not in now else 'new'}")
        elif before[path] != now[path]:
            told = [
                f"{file.size_bytes} bytes {(file.sha256 or file.version or '')[:12]}"
                for file in (before[path], now[path])
            ]
            found.append(f"{key}: {path} was {told[0]}, is {told[1]}")
    return found
