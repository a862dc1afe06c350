"""A local folder for a checkpoint behind a URL: its small files, and what cannot be read by ranges.

Config, tokenizer and index are copied. Safetensors stay where they are. ``pytorch_model.bin`` and
``.gguf`` are copied whole, because torch and gguf map their files. The folder is private to the
user and is deleted when the process ends.
"""

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from neuronc.checkpoint.folder import COMPANIONS, SAFETENSORS, TORCH, read_index
from neuronc.checkpoint.paths import free_bytes
from neuronc.checkpoint.remote.store import (
    RemoteFile,
    Store,
    copy_file,
    find_file,
    open_store,
)
from neuronc.checkpoint.remote.url import Url, parse_url
from neuronc.errors import InputError, NeuroncError, PlanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SMALL_BYTES = 256_000_000
"""Many times a tokenizer; more is no file to copy unasked."""

_SMALL = ("config.json", "modules.json", *COMPANIONS)
_PLAIN_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)
_POOLING = re.compile(r"\d+_Pooling", re.ASCII)
_REQUESTS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """What is here of a checkpoint behind a URL.

    Attributes:
        path: The local folder, or the ``.gguf`` file in it.
        store: Where the rest is.
        seen: Every file of the checkpoint as it was found at opening.
        safetensors: The files to read by ranges, each with the tensors it must hold (None: any);
            empty where there are none, or where no weights were asked for.
        folder: The local folder.
    """

    path: Path
    store: Store
    seen: tuple[RemoteFile, ...]
    safetensors: Mapping[RemoteFile, set[str] | None]
    folder: Path


# A build resolves its checkpoint several times and has to find the same files every time.
_by_source: dict[tuple[str, str | None, bool], Mirror] = {}
_by_path: dict[Path, Mirror] = {}


def resolve_url(source: str, *, revision: str | None, weights: bool) -> Path:
    """The local folder (or ``.gguf`` file) for a URL; one that is there is used while it is right.

    Raises:
        InputError: nothing is there, it cannot be read, or the URL cannot be used.
        PlanError: no room for a copy of what is not read by ranges.
        ToolchainError: the library for that kind of URL is not installed.
        UsageError: ``revision`` is given, and the URL has none.
    """
    for key in ((source, revision, True), (source, revision, weights)):
        mirror = _by_source.get(key)
        if mirror is not None and _is_current(mirror):
            return mirror.path
    mirror = _make(_with_revision(parse_url(source), revision), weights=weights)
    _by_source[source, revision, weights] = _by_path[mirror.path] = mirror
    return mirror.path


def mirror_of(path: Path) -> Mirror | None:
    """The mirror at ``path``, if one is there."""
    return _by_path.get(path)


@contextmanager
def named_by_url(path: Path) -> "Iterator[None]":
    """Messages about files of the mirror at ``path`` name their URLs; of others nothing changes."""
    try:
        yield
    except NeuroncError as error:
        if (mirror := mirror_of(path)) is None:
            raise
        there, here = str(mirror.folder), mirror.store.url.shown
        raise type(error)(
            error.message.replace(there, here), hint=error.hint.replace(there, here)
        ) from error


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results of ``work``, in order; several at a time, as each waits for a server."""
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(work, items))


def _is_current(mirror: Mirror) -> bool:
    if mirror.store.is_fixed:
        return True
    found = in_parallel(lambda file: find_file(mirror.store, file.name), mirror.seen)
    return tuple(found) == mirror.seen


def _with_revision(url: Url, revision: str | None) -> Url:
    if revision is None:
        return url
    owner, slash, path = url.path.partition("/")
    if url.scheme != "hf" or "@" in f"{url.place}/{owner}":
        what = "names one already" if url.scheme == "hf" else "has none"
        message = f"revision {revision!r} is given, but URL {url.shown} {what}"
        raise UsageError(message, hint="leave out the revision")
    quoted = revision.replace("/", "%2F")
    return replace(url, path=f"{owner}@{quoted}{slash}{path}")


def _make(url: Url, *, weights: bool) -> Mirror:
    folder = Path(tempfile.mkdtemp(prefix="neuronc-"))
    atexit.register(_remove, folder, os.getpid())
    try:
        above, _, name = url.path.rpartition("/")
        if name.lower().endswith(".gguf"):
            return _mirror_gguf(open_store(replace(url, path=above)), name, folder)
        return _mirror_folder(open_store(url), folder, weights=weights)
    except BaseException:
        _remove(folder, os.getpid())
        raise


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked worker's end is not ours
        shutil.rmtree(folder, ignore_errors=True)


def _mirror_gguf(store: Store, name: str, folder: Path) -> Mirror:
    file = _required(store, name)
    _check_name(name, str(file))
    _copy_all([file], folder)
    return Mirror(path=folder / name, store=store, seen=(file,), safetensors={}, folder=folder)


def _mirror_folder(store: Store, folder: Path, *, weights: bool) -> Mirror:
    files = _copy_small(store, folder)
    shards = _find_shards(store, SAFETENSORS, folder, files) if weights else {}
    if weights and not shards:
        torch_files = list(_find_shards(store, TORCH, folder, files))
        _copy_all(torch_files, folder)
        files.extend(torch_files)
    seen = (*files, *shards)
    return Mirror(path=folder, store=store, seen=seen, safetensors=shards, folder=folder)


def _copy_small(store: Store, folder: Path) -> list[RemoteFile]:
    _required(store, "config.json")
    found = in_parallel(lambda name: find_file(store, name), _SMALL)
    files = [file for file in found if file is not None]
    _copy_all(files, folder, limit=MAX_SMALL_BYTES)
    if (folder / "modules.json").is_file():
        pooling = [find_file(store, f"{name}/config.json") for name in _pooling_folders(folder)]
        more = [file for file in pooling if file is not None]
        _copy_all(more, folder, limit=MAX_SMALL_BYTES)
        files.extend(more)
    return files


def _pooling_folders(folder: Path) -> list[str]:
    """The folders below that hold a sentence encoder's pooling; `sentence` says what is wrong."""
    try:
        stages: Any = json.loads((folder / "modules.json").read_bytes())
    except ValueError:
        return []
    paths = [stage.get("path") for stage in stages if isinstance(stage, dict)]
    return [path for path in paths if isinstance(path, str) and _POOLING.fullmatch(path)]


def _find_shards(
    store: Store, name: str, folder: Path, files: list[RemoteFile]
) -> dict[RemoteFile, set[str] | None]:
    """The weight files called ``name``, or those that an index of that name lists."""
    if (single := find_file(store, name)) is not None:
        return {single: None}
    index = find_file(store, f"{name}.index.json")
    if index is None:
        return {}
    _copy_all([index], folder, limit=MAX_SMALL_BYTES)
    files.append(index)
    parts = _read_parts(folder / index.name, str(index))
    shards = in_parallel(lambda part: _required(store, part, named_by=str(index)), parts)
    return dict(zip(shards, parts.values(), strict=True))


def _read_parts(path: Path, subject: str) -> dict[str, set[str]]:
    try:
        parts = read_index(path)
    except InputError as error:
        raise InputError(error.message.replace(str(path), subject), hint=error.hint) from error
    for name in parts:
        _check_name(name, subject)
    return parts


def _check_name(name: str, named_by: str) -> None:
    if not _PLAIN_NAME.fullmatch(name):
        message = f"{named_by} names {name[:200]!r}; expected a plain file name beside it"
        raise InputError(message, hint="put all files of a checkpoint into one folder")


def _required(store: Store, name: str, *, named_by: str = "") -> RemoteFile:
    file = find_file(store, name)
    if file is None:
        which = f", which {named_by} names" if named_by else ""
        message = f"there is no {store.url.child(name).shown} (404){which}"
        raise InputError(
            message, hint="check the URL: expected a folder with config.json, or .gguf"
        )
    return file


def _copy_all(files: list[RemoteFile], folder: Path, *, limit: int | None = None) -> None:
    for file in files:
        if limit is not None and file.size_bytes > limit:
            message = f"{file} has {file.size_bytes} bytes; expected at most {limit}"
            raise InputError(message, hint="it is no config, tokenizer or index")
    needed, free = sum(file.size_bytes for file in files), free_bytes(folder)
    if needed > free:
        message = f"no room for a copy of {files[0]}: {needed} bytes needed, {free} bytes free"
        raise PlanError(message, hint="set TMPDIR to another disk, or convert it to safetensors")
    for file in files:
        (folder / file.name).parent.mkdir(exist_ok=True)
        copy_file(file, folder / file.name)
