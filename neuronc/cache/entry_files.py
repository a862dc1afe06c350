"""The files of an entry: copied and compared in one pass."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from neuronc.cache.entry import REMOVE, DamagedEntryError, damage_of
from neuronc.checkpoint.digest import FileDigest, sha256_file
from neuronc.checkpoint.paths import open_file
from neuronc.errors import InputError

_BLOCK_BYTES = 2**20


def digest_of(path: Path) -> FileDigest:
    """Name, size and digest of ``path``."""
    return FileDigest(path=path.name, size_bytes=path.stat().st_size, sha256=sha256_file(path))


def copy_checked(source: Path, target: Path, file: FileDigest) -> None:
    """Copy ``source``, if it is ``file``; what was compared is what was written.

    Raises:
        DamagedEntryError: it is another.
        InputError: it cannot be read now.
        OSError: ``target`` cannot be written.
    """
    with target.open("wb") as out:
        check_file(source, file, out.write)


def check_file(
    source: Path, file: FileDigest, write: Callable[[bytes], object] = lambda _: None
) -> None:
    """Compare ``source`` with ``file``, and ``write`` what was read on the way.

    Raises:
        DamagedEntryError: it is another.
        InputError: it cannot be read now.
    """
    digest, size = hashlib.sha256(), 0
    for block in _blocks(source):
        digest.update(block)
        size += len(block)
        write(block)
        if size > file.size_bytes:
            break
    if size != file.size_bytes or digest.hexdigest() != file.sha256:
        message = f"{source} is not the file that was kept"
        raise DamagedEntryError(message, hint=REMOVE)


def _blocks(source: Path) -> Iterator[bytes]:
    # A generator: what its reader fails at, as a full disk, does not pass through here.
    if source.is_symlink():
        message = f"{source} is a link"
        raise DamagedEntryError(message, hint=REMOVE)
    try:
        with open_file(source) as opened:
            while block := opened.read(_BLOCK_BYTES):
                yield block
    except InputError as error:
        raise damage_of(error) from error
