"""The same files at a second place, without writing their bytes again."""

import os
import shutil
from pathlib import Path


def link_tree(source: Path, destination: Path) -> None:
    """Mirror ``source`` at ``destination``: hard links where the disk allows, copies elsewhere.

    A hard link is the same bytes under a second name: changing one in place changes the other,
    and the digests of both then say so.
    """

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copyfile(one, other)

    shutil.copytree(source, destination, copy_function=link, dirs_exist_ok=True)
