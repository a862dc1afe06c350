"""Whether two builds of the same gave the same, and what differs if not."""

import json
from collections.abc import Iterator

from neuronc.artifact.manifest import Manifest, to_dict
from neuronc.errors import VerificationError

_APART = ("files", "request", "verification")
"""Of a manifest: told file by file, or not part of what an artifact is."""


def require_same(one: Manifest, other: Manifest) -> None:
    """Refuse two manifests with different digests.

    Raises:
        VerificationError: names up to five files or fields that differ.
    """
    if one.digest == other.digest:
        return
    found = list(_differences(one, other))
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    message = f"two builds of the same differ: {', '.join(found[:5])}{more}"
    hint = (
        "see neuronc diff of two builds; a compiler that writes times or paths is the usual cause"
    )
    raise VerificationError(message, hint=hint)


def _differences(one: Manifest, other: Manifest) -> Iterator[str]:
    ours, theirs = ({f.path: f.sha256 for f in m.files} for m in (one, other))
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            yield path if path in ours and path in theirs else f"{path} (in one only)"
    fields, others = to_dict(one), to_dict(other)
    for name in fields.keys() | others.keys():
        here, there = (json.dumps(f.get(name), sort_keys=True) for f in (fields, others))
        if name not in _APART and here != there:
            yield f"{name} in manifest.json"
