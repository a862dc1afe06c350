"""Fetching a Hub checkpoint into the cache of huggingface_hub; only the files that are read."""

import errno
from pathlib import Path

from neuronc.checkpoint.folder import COMPANIONS
from neuronc.errors import InputError, NeuroncError, PlanError

_METADATA = ("*.json", "README.md", *(name for name in COMPANIONS if not name.endswith(".json")))
_SAFETENSORS = ("model.safetensors", "model-*.safetensors")
_TORCH = ("pytorch_model.bin", "pytorch_model-*.bin")
_SUBFOLDERS = ("*/*",)  # a pattern's * also matches slashes
_POOLING = ("*_Pooling/config.json",)


def download(repository: str, *, revision: str | None, weights: bool) -> Path:
    """The local snapshot of Hub repository ``org/name``.

    Pickled weights are fetched only where the repository has no safetensors, and none at all
    without ``weights``.

    Raises:
        InputError: No network, no such repository or revision, or no access to it.
        PlanError: The disk is full.
    """
    if not weights:
        return _with_pooling(_snapshot(repository, revision, _METADATA), repository, revision)
    folder = _snapshot(repository, revision, (*_METADATA, *_SAFETENSORS))
    if any(folder.glob("model*.safetensors")):
        return _with_pooling(folder, repository, revision)
    folder = _snapshot(repository, revision, (*_METADATA, *_TORCH))
    return _with_pooling(folder, repository, revision)


def _with_pooling(folder: Path, repository: str, revision: str | None) -> Path:
    """A sentence encoder's pooling lies in a folder below; see `neuronc.checkpoint.sentence`."""
    if (folder / "modules.json").is_file():
        _snapshot(repository, revision, _POOLING, ignored=())
    return folder


def _snapshot(
    repository: str,
    revision: str | None,
    patterns: tuple[str, ...],
    ignored: tuple[str, ...] = _SUBFOLDERS,
) -> Path:
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(ignored),
        )
    except Exception as error:  # the HTTP library below, and so its errors, differ by version
        at = f"{repository}@{revision}" if revision else repository
        raise _failure(at, error) from error
    return Path(folder)


def _failure(at: str, error: Exception) -> NeuroncError:
    from huggingface_hub import errors

    reason = str(error).partition("\n")[0][:200] or type(error).__name__
    if isinstance(error, errors.GatedRepoError):
        message = f"Hub repository {at!r} is gated, and no token of yours opens it"
        return InputError(message, hint="accept its licence on the Hub, then run: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        message = f"the Hub has no {at!r}, and there is no local folder of that name"
        return InputError(message, hint="check the spelling; if it is private: hf auth login")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        message = f"the disk is full: no room to download {at!r}"
        return PlanError(message, hint="free some space, or set HF_HOME to another disk")
    message = f"cannot download {at!r} (no local folder has that name either): {reason}"
    return InputError(message, hint="check the network, or pass a local folder")
