"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuronc.errors import UsageError


@contextmanager
def atomic_folder(out_dir: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside ``out_dir`` to write into; renamed to ``out_dir`` when the block ends.

    When the block raises (an interrupt too), the folder is deleted and ``out_dir`` is as before.

    Raises:
        UsageError: ``out_dir`` exists and ``overwrite`` is not set, or cannot be made.
    """
    check_output(out_dir, overwrite=overwrite)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}.", dir=out_dir.parent))
    except OSError as error:
        message = f"cannot write beside {out_dir}: {error.strerror}"
        raise UsageError(message, hint="choose a folder that can be written with -o") from error
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes it private
        if out_dir.exists():
            doomed = staging.with_name(f"{staging.name}.old")
            out_dir.rename(doomed)
            staging.rename(out_dir)
            shutil.rmtree(doomed)
        else:
            staging.rename(out_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(out_dir: Path, *, overwrite: bool) -> None:
    """Refuse an ``out_dir`` that exists, unless ``overwrite``; done before any long work."""
    if out_dir.exists() and not overwrite:
        message = f"output folder {out_dir} exists already"
        raise UsageError(message, hint="choose another folder, or pass --overwrite to replace it")
    if out_dir.exists() and not out_dir.is_dir():
        message = f"{out_dir} is a file, not a folder"
        raise UsageError(message, hint="choose another -o")
