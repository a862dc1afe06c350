"""What the errors of fsspec and the libraries under it mean for users.

A library's own text may repeat the URL with its password or token, so it is scrubbed, and the
errors made here are raised without it as their cause.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from neuronc.checkpoint.remote.url import Url
from neuronc.errors import InputError, NeuroncError, PlanError, ToolchainError

EXTRAS = {"s3": "s3", "s3a": "s3", "http": "http", "https": "http"}
"""The extra of neuronc that brings what a scheme needs."""

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_ACCESS = {
    "s3": "set AWS_PROFILE or AWS_ACCESS_KEY_ID, or FSSPEC_S3_ANON=true for a public bucket; S3 "
    "says so of absent files, too, unless you may list the bucket",
    "hf": "check the spelling; if it is private or gated: hf auth login",
}
_NOT_FOUND = (404, 410)
_FORBIDDEN = (401, 403, 407)


class NoSuchFileError(InputError):
    """The place answers, and has no such file."""


@contextmanager
def reading_url(subject: object, url: Url, *, doing: str = "read") -> Iterator[None]:
    """Turn whatever a library raises while reading ``subject``, a file or folder of ``url``.

    ``doing`` says in the message what could not be done, where it is not reading.

    Raises:
        NoSuchFileError: the place answers, and has no such file.
        InputError: it is denied, does not answer in time, or cannot be read.
        PlanError: the disk is full.
        ToolchainError: the library is not installed.
    """
    try:
        yield
    except NeuroncError:
        raise
    except Exception as error:  # noqa: BLE001  (every library below has errors of its own)
        raise _system_failure(error, subject, url) or _failure(error, subject, url, doing) from None


def _system_failure(error: Exception, subject: object, url: Url) -> NeuroncError | None:
    """The error for what is wrong with this machine."""
    if isinstance(error, ImportError):
        return _library_missing(url)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = f"the disk is full: no room for a copy of {subject}"
        return PlanError(message, hint="free some space, or set TMPDIR to another disk")
    return None


def _failure(error: Exception, subject: object, url: Url, doing: str) -> InputError:
    """The error for what is wrong with the place."""
    status = _status(error)
    message, hint = (
        f"cannot {doing} {subject}: {_reason(error, url)}",
        "check the URL and the network",
    )
    if _is_absence(error):
        return NoSuchFileError(f"there is no {subject} (404)", hint="check the URL's spelling")
    if status in _FORBIDDEN or any(isinstance(e, PermissionError) for e in _chain(error)):
        message = f"access to {subject} is denied ({status or 403})"
        hint = _ACCESS.get(url.scheme, "check the URL's credentials")
    elif any("Timeout" in type(e).__name__ for e in _chain(error)):
        message, hint = f"reading {subject} timed out", "check the network, and try again"
    elif status:
        message = f"the server answers {status} for {subject}"
        hint = "try again later, or copy the checkpoint to this machine"
    elif "range requests" in str(error):  # fsspec.implementations.http.HTTPFile
        message = f"the server does not answer requests for a range: {subject}"
        hint = "copy the checkpoint to this machine, or serve it with ranges, as nginx does"
    elif any("Credentials" in type(e).__name__ for e in _chain(error)):
        hint = _ACCESS["s3"]
    return InputError(message, hint=hint)


def _library_missing(url: Url) -> ToolchainError:
    message = f"reading {url.scheme}:// needs a library that is not installed"
    if url.scheme in EXTRAS:
        return ToolchainError(message, hint=f"pip install 'neuronc[{EXTRAS[url.scheme]}]'")
    package = _PACKAGES.get(url.scheme, "the fsspec package of that scheme")
    return ToolchainError(message, hint=f"pip install {package}")


def _reason(error: Exception, url: Url) -> str:
    last = list(_chain(error))[-1]
    text = url.scrub((str(last) or type(last).__name__).splitlines()[0])[:200]
    return text if type(last).__name__ in text else f"{type(last).__name__}: {text}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_absence(error: BaseException) -> bool:
    if (status := _status(error)) is not None:
        return status in _NOT_FOUND
    # fsspec says FileNotFoundError of every failure over http; its cause tells
    absent = (FileNotFoundError, KeyError)
    return isinstance(error, FileNotFoundError) and all(
        isinstance(e, absent) for e in _chain(error)
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status that led to ``error``."""
    return next((found for e in _chain(error) if (found := _own_status(e)) is not None), None)


def _own_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:  # huggingface_hub
        found = getattr(response, "status_code", None)
    else:  # aiohttp
        found = getattr(error, "status", None)
    return found if isinstance(found, int) else None
