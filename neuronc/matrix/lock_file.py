"""Reading and writing lock files: JSON, sorted, so that a change shows as few lines."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuronc.checkpoint.paths import read_json_object
from neuronc.errors import InputError, UsageError
from neuronc.matrix.inputs import Input, InputFile
from neuronc.matrix.lock import Lock, LockedCell

LOCK_VERSION = 1
_MAX_BYTES = 50_000_000


def lock_path(recipe: Path) -> Path:
    """The lock file of the recipe file ``recipe``: beside it, ``.lock`` in place of ``.toml``."""
    return recipe.with_suffix(".lock")


def read_lock(path: Path) -> Lock:
    """The lock in ``path``.

    Raises:
        InputError: there is none, it is damaged, or another version of neuronc wrote it.
    """
    if not path.exists():
        message = f"there is no lock file {path}"
        raise InputError(message, hint="write it with neuronc lock, or build with --update-lock")
    data = read_json_object(path, max_bytes=_MAX_BYTES)
    if data.get("lock_version") != LOCK_VERSION:
        message = (
            f"{path} has lock_version {data.get('lock_version')!r:.40}; expected {LOCK_VERSION}"
        )
        raise InputError(message, hint="write it anew with neuronc lock")
    try:
        return _from_dict(data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is damaged: {error!r:.200}"
        raise InputError(message, hint="write it anew with neuronc lock") from error


def write_lock(lock: Lock, path: Path) -> None:
    """Write ``path``, whole or not at all.

    Raises:
        UsageError: the place cannot be written.
    """
    text = json.dumps({"lock_version": LOCK_VERSION, **asdict(lock)}, indent=1, sort_keys=True)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        staging = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            staging.chmod(0o644)  # mkstemp makes it private
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)
    except OSError as error:
        message = f"cannot write the lock file {path}: {error.strerror or error}"
        raise UsageError(message, hint="check the permissions of its folder") from error


def _from_dict(data: Mapping[str, Any]) -> Lock:
    inputs = {
        str(key): Input(
            revision=_text(found["revision"]),
            files=tuple(_file(file) for file in found["files"]),
        )
        for key, found in data["inputs"].items()
    }
    cells = {str(name): _cell(found) for name, found in data["cells"].items()}
    named = {key for cell in cells.values() for key in (cell.checkpoint, cell.adapter)}
    if missing := named - inputs.keys() - {None}:
        message = f"no input {min(str(key) for key in missing)!r}"
        raise ValueError(message)
    tools = {str(name): _text(version) for name, version in data["tools"].items()}
    return Lock(tools=tools, inputs=inputs, cells=cells)


def _file(found: Mapping[str, Any]) -> InputFile:
    size_bytes = found["size_bytes"]
    if type(size_bytes) is not int:
        message = f"size_bytes is {size_bytes!r:.40}"
        raise TypeError(message)
    return InputFile(
        path=_required(found["path"]),
        size_bytes=size_bytes,
        sha256=_text(found["sha256"]),
        version=_text(found["version"]),
    )


def _cell(found: Mapping[str, Any]) -> LockedCell:
    return LockedCell(
        options=dict(found["options"]),
        checkpoint=_required(found["checkpoint"]),
        adapter=_text(found["adapter"]),
        artifact_digest=_text(found["artifact_digest"]),
        made_on={str(key): _text(value) for key, value in found["made_on"].items()},
    )


def _required(value: object) -> str:
    if not isinstance(value, str):
        message = f"{value!r:.40} stands where a text has to"
        raise TypeError(message)
    return value


def _text(value: object) -> str | None:
    return None if value is None else _required(value)
