"""Whether a checkpoint is still the one that it was, without reading it."""

from pathlib import Path

from neuronc.checkpoint.folder import TORCH
from neuronc.checkpoint.remote.mirror import mirror_of

_FOLDERS = (TORCH, "weights", "checkpoint/weights")
"""Where layouts keep weights below a checkpoint's folder."""


FileStat = tuple[str, int, str]
"""Name, size in bytes, and what tells versions apart: the time of the last change, or an ETag."""


def file_stats(path: Path) -> list[FileStat]:
    """Every file of the checkpoint at ``path``, sorted; of one behind a URL, as it was opened."""
    if (mirror := mirror_of(path)) is not None:
        return [(file.name, file.size_bytes, " ".join(file.version)) for file in mirror.seen]
    folders = [path, *(path / name for name in _FOLDERS)] if path.is_dir() else []
    files = [f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir())] or [path]
    base = path if path.is_dir() else path.parent
    return [
        (f.relative_to(base).as_posix(), f.stat().st_size, str(f.stat().st_mtime_ns))
        for f in files
        if f.is_file()
    ]
