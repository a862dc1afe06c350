"""The digests that manifests record for every file and every tensor."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.checkpoint.paths import reading

if TYPE_CHECKING:
    import numpy as np


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file; one pass over it in small pieces.

    Raises:
        InputError: The file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_array(array: "np.ndarray[Any, Any]") -> str:
    """Hex sha256 of a tensor's values in row-major order, without shape and dtype."""
    return hashlib.sha256(array.reshape(-1).view("u1").data).hexdigest()
