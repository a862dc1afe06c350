"""NEFFs that were compiled already, so that a run after a failure does not compile them again.

One folder per distinct compile below the user's cache folder; it appears whole or not at all.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from neuronc.checkpoint.digest import sha256_file
from neuronc.lower.program_files import COMPILED, COMPILER_RECORD, NEFF


def cache_folder() -> Path:
    """``$NEURONC_CACHE_DIR``, else ``neuronc`` in the user's cache folder."""
    named = os.environ.get("NEURONC_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "neuronc"


def compile_key(hlo: bytes, args: Sequence[str], compiler_version: str) -> str:
    """What a NEFF depends on: the program, every flag, the compiler. sha256, hex.

    The HLO holds its replica groups, so programs of different tp never share a key.
    """
    told = [compiler_version, list(args), hashlib.sha256(hlo).hexdigest()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def take(key: str, folder: Path) -> bool:
    """Put the finished compile ``key`` into ``folder``; False if there is none that is sound."""
    found = _place(key)
    try:
        record = json.loads((found / COMPILER_RECORD).read_text(encoding="utf-8"))
        if record["neff_sha256"] != sha256_file(found / NEFF):
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    for name in COMPILED:  # copies: what is done to an artifact is not done to the store
        shutil.copyfile(found / name, folder / name)
    return True


def put(key: str, folder: Path) -> None:
    """Keep the finished compile in ``folder`` as ``key``; a full disk only costs the keeping."""
    place = _place(key)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=place.parent))
        try:
            for name in COMPILED:
                shutil.copyfile(folder / name, staging / name)
            if place.exists():
                shutil.rmtree(place)
            staging.rename(place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError:
        shutil.rmtree(place, ignore_errors=True)


def _place(key: str) -> Path:
    return cache_folder() / "neff" / key
