"""Folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path

from neuronc.checkpoint.paths import read_json_object
from neuronc.checkpoint.remote.url import local_form
from neuronc.errors import InputError, PlanError, UsageError
from neuronc.parallel.split_manifest import MAX_SPLIT_BYTES

OURS: Mapping[str, AbstractSet[str]] = {
    "split.json": {"split_format", "tensors"},
    "manifest.json": {"format", "programs", "tool_versions"},
    "trace.json": {"torch_neuronx", "compiler_args"},
}
"""A folder that has one of these files was made by neuronc, so neuronc may replace it.

Others name their files so too: it counts as ours where it has our fields.
"""


@contextmanager
def atomic_folder(out_dir: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``out_dir`` to write into; renamed to ``out_dir`` when the block ends.

    When the block raises (an interrupt too), the folder is deleted and ``out_dir`` is as before.

    Raises:
        UsageError: ``out_dir`` exists and may not be replaced, or cannot be made.
    """
    check_output(out_dir, overwrite=overwrite)
    out_dir = out_dir.resolve()  # what a link leads to is replaced, not the link
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        raise _cannot_make(out_dir, error) from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes it private
        _move(staging, out_dir, overwrite=overwrite)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def resumable_folder(out_dir: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """`atomic_folder`, but what an interruption leaves is there again the next time.

    The folder to write into is ``.NAME.partial`` beside ``out_dir``. When the block raises, it is
    deleted if it is empty, and kept as it is otherwise; whoever writes into it decides.

    Raises:
        UsageError: as `atomic_folder`, or something else has that name.
    """
    check_output(out_dir, overwrite=overwrite)
    out_dir = out_dir.resolve()
    staging = out_dir.with_name(f".{out_dir.name}.partial")
    if staging.is_symlink() or (staging.exists() and not staging.is_dir()):
        message = f"{staging} is in the way: it is not a folder of ours"
        raise UsageError(message, hint="delete it, or choose another -o")
    try:
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(out_dir, error) from error
    try:
        yield staging
        _move(staging, out_dir, overwrite=overwrite)
    except BaseException as error:
        with suppress(OSError):
            staging.rmdir()
        if staging.exists() and isinstance(error, PlanError):
            error.hint += "; the same command then goes on where it stopped"
        raise


def check_output(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse an ``out_dir`` that exists, unless ``overwrite`` and it is empty or of our making.

    Cheap: done before any long work.
    """
    if not os.path.lexists(out_dir):
        return
    if not out_dir.is_dir():
        message = f"{out_dir} exists and is not a folder"
        raise UsageError(message, hint="choose another -o")
    if not overwrite:
        message = f"output folder {out_dir} exists already"
        raise UsageError(message, hint="choose another folder, or pass --overwrite to replace it")
    try:
        found = {path.name for path in out_dir.iterdir()}
    except OSError as error:
        raise _cannot_make(out_dir, error) from error
    if found and not any(_is_ours(out_dir / name, fields) for name, fields in OURS.items()):
        message = f"{out_dir} holds files, but was not made by neuronc: it has no {' or '.join(OURS)} of ours"
        raise UsageError(message, hint="choose another -o, or delete that folder yourself")


def require_apart(out_dir: Path, what: str, source: str | Path | None) -> None:
    """Refuse an output folder with ``source`` in it, which ``what`` names for the message."""
    place = None if source is None else Path(local_form(str(source)))
    if place is not None and place.exists() and place.resolve().is_relative_to(out_dir.resolve()):
        message = f"output folder {out_dir} holds the {what} {place} that it is made of"
        raise UsageError(message, hint="choose another output folder")


def _is_ours(path: Path, fields: AbstractSet[str]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return read_json_object(path, max_bytes=MAX_SPLIT_BYTES).keys() >= fields
    except InputError:
        return False


def _move(staging: Path, out_dir: Path, *, overwrite: bool) -> None:
    check_output(out_dir, overwrite=overwrite)  # it may have come up meanwhile
    replaced = staging.with_name(f"{staging.name}.old")
    try:
        if out_dir.exists():
            out_dir.rename(replaced)
        staging.rename(out_dir)
    except OSError as error:
        raise _cannot_make(out_dir, error) from error
    finally:
        if not out_dir.exists() and replaced.exists():
            replaced.rename(out_dir)
        shutil.rmtree(replaced, ignore_errors=True)


def _cannot_make(out_dir: Path, error: OSError) -> UsageError:
    message = f"cannot make {out_dir}: {error.strerror}"
    return UsageError(message, hint="choose a folder that can be written with -o")
