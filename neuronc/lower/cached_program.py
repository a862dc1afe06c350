"""A program's files to and from the store; imports neither torch nor jax."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronc.cache.cache import Cache
from neuronc.cache.entry import MERGED
from neuronc.cache.key import Key
from neuronc.cache.program_keys import executable_key, lowered_key
from neuronc.lower.program_files import EXECUTABLE, HLO, NEURON_HLO, SIGNATURE, STABLEHLO


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """A program that has to be made.

    Attributes:
        name: Of the program.
        key: Of the first of its parts that the store lacks; what comes after it is not known.
        signature: Of the lowered program, where that was there; None where torch has to trace.
    """

    name: str
    key: Key
    signature: Mapping[str, Any] | None


def take_program_files(job: Mapping[str, Any], folder: Path, cache: Cache) -> Missing | None:
    """Put into ``folder`` what the store has of ``job``; what is missing, or None.

    Args:
        job: A ``ProgramJob`` as JSON, without ``signature``.
        folder: Of the program.
        cache: The store.

    Raises:
        InputError: a store behind a URL does not answer.
    """
    key = lowered_key(job)
    if cache.take(key, folder) is None:
        return Missing(name=job["name"], key=key, signature=None)
    if not job["make_executable"]:
        return None
    key = executable_key(folder, target=job["target"], tp=job["tp"])
    if take_executable(cache, key, folder):
        return None
    signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    return Missing(name=job["name"], key=key, signature=signature)


def keep_lowered(cache: Cache, key: Key, folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep what `lowered_key` is the key of."""
    names = [n for n in (STABLEHLO, HLO, NEURON_HLO, SIGNATURE) if (folder / n).is_file()]
    cache.put(key, folder, names, facts)


def keep_executable(cache: Cache, key: Key, folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep what `executable_key` is the key of; merged weights by their places, not by name."""
    signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    places = {row[1]: place for place, row in enumerate(signature["inputs"])}
    merged = [[places[name] for name in group] for group in signature["merged_weights"]]
    (folder / MERGED).write_text(json.dumps(merged), encoding="utf-8")
    cache.put(key, folder, [EXECUTABLE, MERGED], facts)
    (folder / MERGED).unlink()


def take_executable(cache: Cache, key: Key, folder: Path) -> bool:
    """Put the executable of ``key`` beside its lowered program; whether there is one."""
    if cache.take(key, folder) is None:
        return False
    merged = json.loads((folder / MERGED).read_text(encoding="utf-8"))
    (folder / MERGED).unlink()
    signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    names = [[signature["inputs"][place][1] for place in group] for group in merged]
    text = json.dumps({**signature, "merged_weights": names})
    (folder / SIGNATURE).write_text(text, encoding="utf-8")
    return True
