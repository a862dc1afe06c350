"""Files of one folder behind a URL, through fsspec: found, read by ranges, copied.

What a file's version is depends on the file system (fsspec documentation, ``info``): S3 has an
ETag, HTTP an ETag or a time, the Hub a commit. Retries are those of the library below.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronc.checkpoint.remote.failure import NoSuchFileError, reading_url
from neuronc.checkpoint.remote.url import HTTP, Url
from neuronc.errors import InputError

SILENCE_SECONDS = 60.0
"""Over HTTP the longest wait for a connection, and for the next bytes of an answer."""

_VERSION_KEYS = (
    "ETag", "etag", "VersionId", "generation", "blob_id", "Content-MD5", "Digest", "md5Hash",
    "crc32c", "content_md5", "LastModified", "last_modified", "Last-Modified", "updated",
    "modified", "mtime", "created", "ino",
)  # fmt: skip
_CHANGED = "leave the checkpoint alone while it is used, and start again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """A folder behind a URL and the fsspec file system that reads it.

    ``is_fixed`` says that the URL names one version (a commit) for ever.
    """

    url: Url
    fs: Any
    is_fixed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """One version of one file; as text, its URL without secrets."""

    store: Store
    name: str
    size_bytes: int
    version: tuple[str, ...]

    def __str__(self) -> str:
        return self.store.url.child(self.name).shown

    @property
    def place(self) -> str:
        """What fsspec calls the file; holds the URL's secrets."""
        return self.store.url.child(self.name).full


def open_store(url: Url, *, fixed: bool = True) -> Store:
    """The file system for ``url``; imports fsspec and what it needs for the scheme.

    A repository of the Hub is opened at the commit that its revision names now, unless it is to be
    written to, which ``fixed`` rules out.

    Raises:
        InputError: no such kind of URL, or no such repository.
        ToolchainError: the library for it is not installed.
    """
    import fsspec

    if url.scheme not in fsspec.available_protocols():
        message = f"URL {url.shown} is of no kind that fsspec knows"
        raise InputError(message, hint="known are s3, gs, hf, https, memory, file and others")
    with reading_url(url.shown, url):
        fs = fsspec.filesystem(
            url.scheme, skip_instance_cache=True, use_listings_cache=False, **_options(url.scheme)
        )
        store = Store(url=url, fs=fs)
        return _pinned(store) if url.scheme == "hf" and fixed else store


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in HTTP:
        return {}
    import aiohttp
    from fsspec.config import conf

    silence = aiohttp.ClientTimeout(
        total=None, sock_connect=SILENCE_SECONDS, sock_read=SILENCE_SECONDS
    )
    asked = conf.get(scheme, {}).get("client_kwargs", {})  # the user's, as a header with a token
    headers = {"Accept-Encoding": "identity", **asked.get("headers", {})}
    return {"client_kwargs": {"timeout": silence, **asked, "headers": headers}}


def _pinned(store: Store) -> Store:
    """A Hub repository at the commit that its revision names now."""
    from huggingface_hub import HfApi

    at = store.fs.resolve_path(f"{store.url.place}/{store.url.path}".strip("/"))
    if not hasattr(at, "repo_id"):  # a bucket has no commits
        return store
    api = HfApi(endpoint=store.fs.endpoint, token=store.fs.token)
    sha = api.repo_info(at.repo_id, revision=at.revision, repo_type=at.repo_type).sha
    kind = "" if at.repo_type == "model" else f"{at.repo_type}s/"
    place, _, path = f"{kind}{at.repo_id}@{sha}/{at.path_in_repo}".strip("/").partition("/")
    return replace(store, url=replace(store.url, place=place, path=path), is_fixed=True)


def find_file(store: Store, name: str) -> RemoteFile | None:
    """File ``name`` as it is now; None where there is none.

    Raises:
        InputError: the place cannot be reached, does not answer, or does not tell a size.
    """
    subject = store.url.child(name).shown
    try:
        with reading_url(subject, store.url):
            info = store.fs.info(store.url.child(name).full)
    except NoSuchFileError:
        return None
    if info.get("type") != "file":
        return None
    if not isinstance(info.get("size"), int):
        message = f"{subject} has no known size: the server does not tell it"
        raise InputError(message, hint="copy the checkpoint to this machine")
    version = tuple(f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key))
    return RemoteFile(store=store, name=name, size_bytes=info["size"], version=version)


def check_unchanged(file: RemoteFile) -> None:
    """Raise `InputError` if ``file`` is no longer the version that was found at opening."""
    if file.store.is_fixed:
        return
    now = find_file(file.store, file.name)
    if now != file:
        what = "is gone" if now is None else "is another version now"
        message = f"{file} changed after it was opened: it {what}"
        raise InputError(message, hint=_CHANGED)


def read_bytes(file: RemoteFile, start: int, stop: int) -> bytes:
    """Bytes ``start`` to ``stop`` of ``file``, which may be another version by now.

    Raises:
        InputError: the range cannot be read whole.
    """
    try:
        with reading_url(f"{file}, bytes {start} to {stop}", file.store.url):
            data = _fetch(file, start, stop)
    except InputError:
        check_unchanged(file)
        raise
    if len(data) != stop - start:
        check_unchanged(file)
        message = f"{file} gave {len(data)} bytes; expected {stop - start} from byte {start} on"
        raise InputError(message, hint="try again; if it stays, copy the checkpoint here")
    return data


def _fetch(file: RemoteFile, start: int, stop: int) -> bytes:
    fs, is_http = file.store.fs, file.store.url.scheme in HTTP
    if fs.async_impl and not is_http:
        return bytes(fs.cat_file(file.place, start=start, end=stop))
    # Unlike cat_file, an open file notices an HTTP server that answers with all there is, and can
    # be told not to read ahead.
    known = {"size": file.size_bytes} if is_http else {}
    with fs.open(file.place, "rb", cache_type="none", **known) as opened:
        opened.seek(start)
        return bytes(opened.read(stop - start))


def copy_file(file: RemoteFile, path: Path) -> None:
    """Write ``file`` to ``path``, streaming.

    Raises:
        InputError: it cannot be read whole, or is another version by now.
        PlanError: the disk is full.
    """
    with reading_url(file, file.store.url):
        file.store.fs.get_file(file.place, str(path))
    check_unchanged(file)
    if (found := path.stat().st_size) != file.size_bytes:
        message = f"{file} gave {found} bytes; expected {file.size_bytes}"
        raise InputError(message, hint="try again; if it stays, copy the checkpoint here")
