"""The digest that manifests record for every file."""

import hashlib
from pathlib import Path

from neuronc.checkpoint.paths import reading


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file; one pass over it in small pieces.

    Raises:
        InputError: The file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
