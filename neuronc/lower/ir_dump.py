"""Numbered snapshots of a program between stages: ``01-exported.txt``, ``02-torch.mlir``, ..."""

from collections.abc import Callable
from pathlib import Path


class IRDump:
    """Writes each stage's text under one folder; does nothing when the folder is None."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.count = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, render: Callable[[], str | bytes]) -> None:
        """Write what ``render`` gives, which is only called when somebody asked for dumps."""
        self.count += 1
        if self.folder is None:
            return
        content = render()
        data = content.encode() if isinstance(content, str) else content
        (self.folder / f"{self.count:02d}-{name}").write_bytes(data)
