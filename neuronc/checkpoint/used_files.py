"""Which files of a checkpoint take part in a build: what locks and provenance tell by digest."""

import re
from collections.abc import Iterable
from pathlib import Path

from neuronc.checkpoint.fingerprint import file_stats
from neuronc.checkpoint.folder import COMPANIONS, SAFETENSORS, TORCH, read_index
from neuronc.checkpoint.paths import contained_file
from neuronc.checkpoint.remote.mirror import mirror_of

CARD_FILE = "README.md"
"""The model card: license and base model, and nothing of the numbers."""

_METADATA = ("config.json", "modules.json", CARD_FILE, "split.json", *COMPANIONS)
_POOLING = re.compile(r"\d+_Pooling/config\.json", re.ASCII)


def used_files(path: Path, *, weights: bool) -> tuple[str, ...]:
    """Names of those files of the checkpoint at ``path`` that a build reads, sorted.

    Without ``weights`` config and tokenizer only. Of several forms of weights, the one that
    `neuronc.parallel.layouts.open_any.open_any_checkpoint` prefers.
    """
    if not path.is_dir():
        return (path.name,)
    there = [name for name, _, _ in file_stats(path)]
    if (mirror := mirror_of(path)) is None:
        there += [p.relative_to(path).as_posix() for p in path.glob("*_Pooling/config.json")]
    kept = {name for name in there if name in _METADATA or _POOLING.fullmatch(name)}
    if weights and mirror is not None:
        kept = set(there)
    elif weights:
        kept |= _weight_files(path, there)
    return tuple(sorted(kept))


def _weight_files(path: Path, there: Iterable[str]) -> set[str]:
    known = set(there)
    for single in (SAFETENSORS, TORCH):
        index = f"{single}.index.json"
        if (path / single).is_dir():
            return {name for name in known if name.startswith(f"{single}/")}
        if single in known:
            return {single}
        if index in known:
            parts = set(read_index(path / index))
            for part in parts:
                contained_file(path, part, named_by=str(path / index))
            return {index, *parts}
    ending = (".safetensors", ".json")  # rank files, of neuronc or NxD Inference
    return {name for name in known if name.endswith(ending)}
