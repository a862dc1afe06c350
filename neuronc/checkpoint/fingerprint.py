"""Whether a checkpoint is still the one that it was, without reading it."""

from pathlib import Path

from neuronc.checkpoint.folder import TORCH

_FOLDERS = (TORCH, "weights", "checkpoint/weights")
"""Where layouts keep weights below a checkpoint's folder."""


def file_stats(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time in ns of every file of the checkpoint at ``path``, sorted."""
    folders = [path, *(path / name for name in _FOLDERS)] if path.is_dir() else []
    files = [f for folder in folders if folder.is_dir() for f in sorted(folder.iterdir())] or [path]
    base = path if path.is_dir() else path.parent
    return [
        (f.relative_to(base).as_posix(), f.stat().st_size, f.stat().st_mtime_ns)
        for f in files
        if f.is_file()
    ]
