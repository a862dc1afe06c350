"""The same files at a second place, without writing their bytes again."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from neuronc.errors import InputError


def link_files(source: Path, destination: Path, names: Iterable[str]) -> None:
    """Put files of ``source`` at ``destination``: hard links where the disk allows, else copies.

    A hard link is the same bytes under a second name: changing one in place changes the other,
    and the digests of both then say so.

    Args:
        source: A folder whose files were compared with their digests.
        destination: A folder that exists.
        names: Paths relative to both, of files that are known not to leave ``source``; what else
            lies there stays behind.

    Raises:
        InputError: a path leaves ``destination``, or something is there already.
    """
    for name in names:
        place = destination / name
        if not place.resolve().is_relative_to(destination.resolve()) or place.exists():
            message = f"{source} lists {name!r}, which is outside the folder or listed twice"
            raise InputError(message, hint="do not use this folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        file = (source / name).resolve()  # never the link itself, which would lead out again
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)
