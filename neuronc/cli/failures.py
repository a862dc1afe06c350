"""Whatever a command raises, as what to tell the user and the exit code."""

import errno
import tempfile
import traceback
from pathlib import Path

import typer

from neuronc.cli.output import Failure
from neuronc.errors import HostMemoryError, InputError, NeuroncError, PlanError, UsageError
from neuronc.tools import installed_versions


def describe(error: BaseException) -> Failure:
    """What to tell the user about ``error``; a bug of ours also leaves a log file."""
    return known_failure(error) or _bug(error)


def known_failure(error: BaseException) -> Failure | None:
    """What to tell the user about ``error``; None for a bug of ours."""
    if isinstance(error, NeuroncError):
        return Failure.of(error)
    if isinstance(error, typer.TyperException):
        return Failure.of(_usage_error(error))
    if isinstance(error, KeyboardInterrupt):
        return Failure(kind="interrupted", message="interrupted", hint="", exit_code=130)
    if isinstance(error, MemoryError):
        message = f"the host ran out of memory: {error}".removesuffix(": ")
        hint = "free memory, or use a smaller model, batch size or max length"
        return Failure.of(HostMemoryError(message, hint=hint))
    if isinstance(error, OSError) and error.errno in _OS_ERRORS:
        error_class, hint = _OS_ERRORS[error.errno]
        place = "" if error.filename is None else f"{error.filename}: "
        return Failure.of(error_class(f"{place}{error.strerror}", hint=hint))
    return None


_OS_ERRORS: dict[int, tuple[type[NeuroncError], str]] = {
    errno.ENOSPC: (PlanError, "free disk space, or write to another disk"),
    errno.EDQUOT: (PlanError, "free disk space, or write to another disk"),
    errno.EACCES: (UsageError, "check the permissions, or choose another folder"),
    errno.EPERM: (UsageError, "check the permissions, or choose another folder"),
    errno.ENAMETOOLONG: (InputError, "use a shorter name"),
    errno.ELOOP: (InputError, "a link leads back to itself: remove it"),
    errno.EROFS: (UsageError, "choose a folder on a disk that can be written"),
}


def _usage_error(error: typer.TyperException) -> UsageError:
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    context: typer.Context | None = getattr(error, "ctx", None)
    command = "neuronc" if context is None else context.command_path
    return UsageError(message, hint=f"see {command} --help")


def _bug(error: BaseException) -> Failure:
    versions = "".join(f"{name} {found}\n" for name, found in installed_versions().items())
    details = "".join([versions, *traceback.format_exception(error)])
    summary = traceback.format_exception_only(error)[-1].strip()
    try:
        hint = f"please report it with the log {_write_log(details)}"
    except OSError:
        hint = f"please report it with these details (no log could be written)\n{details}"
    return Failure(kind="bug", message=f"a bug in neuronc: {summary}", hint=hint, exit_code=1)


def _write_log(text: str) -> Path:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="neuronc-", suffix=".log", delete=False
    ) as log:
        log.write(text)
    return Path(log.name)
