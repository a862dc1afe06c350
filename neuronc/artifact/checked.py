"""Remembers that the files of an artifact were compared with their digests.

The next build then need not read gigabytes to find that nothing is to be done.

A file counts as unchanged while size, inode and both times are the same; the time of the last
change of the inode (ctime) cannot be set back by any program. Files that changed less than
`_SETTLED_S` before they were compared are compared again, as git does with its index.
"""

import json
import time
from contextlib import suppress
from pathlib import Path

from neuronc.artifact.manifest import Manifest
from neuronc.cache.cache import Cache
from neuronc.cache.program_keys import digest_json
from neuronc.parallel.split_manifest import check_files

_SETTLED_S = 2.0


def check_artifact_files(folder: Path, manifest: Manifest, cache: Cache | None) -> None:
    """Compare the files of the artifact in ``folder`` with the digests in ``manifest``.

    With a store only their sizes and times, if that was done there before and nothing has changed.

    Raises:
        InputError: a file is missing or another.
    """
    if cache is None:
        check_files(folder, manifest.files)
        return
    stamp = cache.local.root / "checked" / f"{digest_json(str(folder.resolve()))}.json"
    states = _states(folder, manifest)
    if states is not None and _is_known(stamp, manifest, states):
        return
    begin_s = time.time()
    check_files(folder, manifest.files)
    if states is not None and _states(folder, manifest) == states:
        told = {"artifact": manifest.digest, "files": states, "at_s": begin_s}
        with suppress(OSError):  # it only costs reading them again
            stamp.parent.mkdir(parents=True, exist_ok=True)
            part = stamp.with_suffix(".part")
            part.write_text(json.dumps(told), encoding="utf-8")
            part.replace(stamp)


def _is_known(stamp: Path, manifest: Manifest, states: dict[str, list[int]]) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(stamp.read_text(encoding="utf-8"))
        newest_s = max((state[3] for state in states.values()), default=0) / 1e9
        is_settled = newest_s + _SETTLED_S < told["at_s"]
        return bool(is_settled and told["artifact"] == manifest.digest and told["files"] == states)
    return False


def _states(folder: Path, manifest: Manifest) -> dict[str, list[int]] | None:
    """Size, inode, and both times in ns of every file; None where one is missing or no plain file."""
    states = {}
    for file in manifest.files:
        path = folder / file.path
        try:
            stat = path.lstat()
        except OSError:
            return None
        if path.is_symlink():
            return None
        states[file.path] = [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]
    return states
