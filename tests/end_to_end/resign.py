"""Changing an artifact the way an attacker or a bug would: with digests that fit again."""

import json
import shutil
from pathlib import Path
from typing import Any

from neuronc.checkpoint.digest import sha256_file


def copy_artifact(artifact: Path, folder: Path) -> Path:
    """A copy whose files may be changed."""
    return Path(shutil.copytree(artifact, folder))


def resign(artifact: Path) -> None:
    """Make every recorded digest fit the files as they are now."""
    split_path = artifact / "weights" / "split.json"
    split = json.loads(split_path.read_text())
    for entry in split["files"]:
        _redo(entry, artifact / "weights" / entry["path"])
    split_path.write_text(json.dumps(split, indent=1) + "\n")
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["files"]:
        _redo(entry, artifact / entry["path"])
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def edit_manifest(artifact: Path, change: Any) -> None:
    """Apply ``change`` to the parsed manifest and write it back."""
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=1) + "\n")


def _redo(entry: dict[str, Any], path: Path) -> None:
    entry["size_bytes"] = path.stat().st_size
    entry["sha256"] = sha256_file(path)
