"""NEFFs that were compiled already, so that a run after a failure does not compile them again.

One folder per distinct compile below the user's cache folder; it appears whole or not at all.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from neuronc.checkpoint.digest import sha256_file
from neuronc.errors import InputError
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
    """Put the finished compile ``key`` into ``folder``; False if there is none that is sound.

    Another build, or a cleaner of old files, may take parts away meanwhile.
    """
    found = _place(key)
    try:
        for name in COMPILED:  # copies: what is done to an artifact is not done to the store
            shutil.copyfile(found / name, folder / name)
    except OSError:
        return False
    return _is_sound(folder)


def _is_sound(folder: Path) -> bool:
    try:
        if not all((folder / name).is_file() for name in COMPILED):
            return False
        record = json.loads((folder / COMPILER_RECORD).read_text(encoding="utf-8"))
        return bool(record["neff_sha256"] == sha256_file(folder / NEFF))
    except (OSError, InputError, ValueError, KeyError, TypeError):
        return False


def put(key: str, folder: Path) -> None:
    """Keep the finished compile in ``folder`` as ``key``; a full disk only costs the keeping.

    An entry that is there and sound stays: another build may be reading it.
    """
    place = _place(key)
    if _is_sound(place):
        return
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=place.parent))
        try:
            for name in COMPILED:
                shutil.copyfile(folder / name, staging / name)
            with suppress(OSError):  # another build's, whole as ours
                staging.rename(place)
            if not _is_sound(place):  # a damaged one goes at once, as a whole
                place.rename(staging.with_name(f"{staging.name}.damaged"))
                staging.rename(place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(staging.with_name(f"{staging.name}.damaged"), ignore_errors=True)


def _place(key: str) -> Path:
    return cache_folder() / "neff" / key
