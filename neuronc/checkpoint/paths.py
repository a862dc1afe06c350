"""Reading and writing files without leaving a folder, and what the system's errors mean for users."""

import errno
import json
import os
import reprlib
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from neuronc.errors import InputError, PlanError, UsageError

MAX_JSON_BYTES = 256_000_000
"""Of a JSON file; the largest that a checkpoint or a split has is a fraction of it."""

_MAX_NAME_BYTES = 255  # what file systems allow
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxlong, _SHOWN.maxstring, _SHOWN.maxother = 3, 40, 80, 80


def shown(value: object) -> str:
    """``value``, which came out of a file and may be anything, in at most 200 characters."""
    return _SHOWN.repr(value)[:200]


def contained_file(folder: Path, name: str, *, named_by: str = "") -> Path:
    """The path of file ``name`` directly in ``folder``, which need not exist.

    Args:
        folder: The folder that the file may not leave.
        name: A plain file name.
        named_by: The file that holds ``name``, for the message.

    Raises:
        InputError: ``name`` has folders in it, or is a link to a place outside ``folder``.
    """
    subject = f"{named_by} names {name!r}" if named_by else f"{folder / name}"
    if name in ("", ".", "..") or any(sign in name for sign in "/\\\0"):
        message = f"{subject}; expected a plain file name inside {folder}"
        raise InputError(message, hint="put all files of a checkpoint into one folder")
    if _is_too_long(name):
        message = f"{subject[:300]}..., which is too long for a file name"
        raise InputError(message, hint="use the names that the checkpoint was published with")
    path = folder / name
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(_root(folder)):
        message = f"{subject}, a link to {target}; expected a file inside {folder}"
        raise InputError(message, hint="replace the link by the file itself")
    return path


def path_below(folder: Path, name: str) -> Path:
    """The path of ``name``, with ``/`` between its parts, below ``folder``; it need not exist.

    Raises:
        InputError: ``name`` is no plain path, or leads through a link to a place outside ``folder``.
    """
    path = folder / name
    try:
        check_listed_paths([name])
    except ValueError as error:
        message = f"{folder}: {error}"
        raise InputError(message, hint="download the checkpoint again") from error
    if not Path(os.path.realpath(path)).is_relative_to(_root(folder)):
        message = f"{path} is a link to a place outside {folder}"
        raise InputError(message, hint="replace the link by the file itself")
    return path


def check_listed_paths(paths: Sequence[str]) -> None:
    """Check the paths that a manifest lists, before anything is read or written at one.

    Raises:
        ValueError: one is not a plain path below the manifest's folder, is listed twice, or lies
            below another, which is a file.
    """
    known = set(paths)
    if len(known) < len(paths):
        message = "a path is listed twice"
        raise ValueError(message)
    for path in paths:
        parts = path.split("/")
        if not all(parts) or {".", ".."} & set(parts) or any(sign in path for sign in "\\\0"):
            message = f"{path[:200]!r} is no plain path: it may lead outside the folder"
            raise ValueError(message)
        if any(_is_too_long(part) for part in parts):
            message = f"{path[:200]!r}... is too long for a file name"
            raise ValueError(message)
        above = ("/".join(parts[:end]) for end in range(1, len(parts)))
        if any(folder in known for folder in above):
            message = f"{path[:200]!r} lies below a file"
            raise ValueError(message)


def _is_too_long(name: str) -> bool:
    return len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES


def _root(folder: Path) -> Path:
    # A Hub cache keeps the files in "blobs" and links to them from "snapshots/REVISION".
    real = Path(os.path.realpath(folder))
    repository = real.parent.parent
    if real.parent.name == "snapshots" and (repository / "blobs").is_dir():
        return repository
    return real


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn a system error while reading ``path`` into an `InputError`."""
    try:
        yield
    except OSError as error:
        message = f"cannot read {path}: {error.strerror or error}"
        raise InputError(message, hint="check that it exists and that you may read it") from error


@contextmanager
def open_file(path: Path) -> Iterator[BufferedReader]:
    """``path``, open for reading.

    Raises:
        InputError: It cannot be read, or is no plain file: a pipe would make us wait without end.
    """
    with reading(path), os.fdopen(_open_plain(path), "rb") as file:
        yield file


def _open_plain(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"cannot read {path}: it is not a plain file"
        raise InputError(message, hint="replace it by the file itself")
    return descriptor


@contextmanager
def writing(path: Path, *, needed_bytes: int) -> Iterator[None]:
    """Turn a system error while writing ``path`` into an error that says the way out.

    Raises:
        PlanError: The disk (or quota) is full, or takes no file as large as this.
        UsageError: The place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, needed_bytes=needed_bytes) from error
        if error.errno == errno.EFBIG:
            message = f"{path} is larger than the file system, or a limit of yours, allows"
            raise PlanError(message, hint="pass --max-file-size, or choose another -o") from error
        message = f"cannot write {path}: {error.strerror or error}"
        raise UsageError(message, hint="choose an output folder that you may write to") from error


def require_writable(option: str, path: Path) -> None:
    """Refuse a place that takes no file, before any work is done for it.

    Args:
        option: Name of the option that ``path`` was given with.
        path: A file that may exist.

    Raises:
        UsageError: the folder does not exist or takes no files, or ``path`` is no file.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        message = f"--{option} {path} cannot be written: it is, or is in no, folder"
        raise UsageError(message, hint="name a file in a folder that exists")
    if path.exists() and not path.is_file():  # a new file would take a device's place
        message = f"--{option} {path} cannot be written: it is a device or a pipe"
        raise UsageError(message, hint="name a file; --json writes to stdout")
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"--{option} {path} cannot be written: {folder} takes no files of yours"
        raise UsageError(message, hint="check its permissions, or choose another folder")


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the file system of ``folder``, which need not exist."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_full(path: Path, *, needed_bytes: int) -> PlanError:
    """The error for a file system without room for ``path``."""
    free = free_bytes(path.parent)
    message = f"no room for {path}: {needed_bytes} bytes needed, {free} bytes free"
    return PlanError(message, hint="free some space or choose an output folder on another disk")


def read_json_object(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in ``path``.

    Raises:
        InputError: It cannot be read, has more than ``max_bytes``, is not JSON, or not an object.
    """
    try:
        with open_file(path) as file:
            text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            message = f"{path} has more than {max_bytes} bytes"
            raise InputError(message, hint="download the file again")
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        message = f"{path} is not valid JSON: {error}"
        raise InputError(message, hint="download the file again") from error
    if not isinstance(found, dict):
        message = f"{path} holds a JSON {type(found).__name__}; expected an object"
        raise InputError(message, hint="download the file again")
    return found
