"""The layouts a split can be written in, and where each keeps a rank's weights."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

Layout = Literal["neuronc", "transformers-neuronx", "nxdi"]
"""``neuronc``: files per rank and ``split.json``. ``transformers-neuronx``: a directory with one
file per parameter, unsharded. ``nxdi`` (NxD Inference): ``weights/`` with one file per rank.
"""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

NXDI_WEIGHTS = "weights"
"""Folder of NxD Inference's rank files."""

_PART = re.compile(r"-([0-9]{5})-of-([0-9]{5})")


def rank_path(rank: int, layout: Layout) -> str:
    """Path of a rank's only weight file in its folder; ``transformers-neuronx`` has none."""
    if layout == "nxdi":
        return f"{NXDI_WEIGHTS}/tp{rank}_sharded_checkpoint.safetensors"
    return f"rank-{rank}.safetensors"


def rank_paths(rank: int, layout: Layout, count: int) -> tuple[str, ...]:
    """Paths of a rank's ``count`` files; numbered as transformers numbers the parts of a model."""
    only = rank_path(rank, layout)
    if count == 1:
        return (only,)
    stem, _, suffix = only.rpartition(".")
    return tuple(f"{stem}-{n:05}-of-{count:05}.{suffix}" for n in range(1, count + 1))


def find_rank_paths(paths: Iterable[str], rank: int, layout: Layout) -> tuple[str, ...]:
    """Those of ``paths`` that are the files of ``rank``, in order; none where one is missing."""
    known = set(paths)
    only = rank_path(rank, layout)
    if only in known:
        return (only,)
    stem, _, suffix = only.rpartition(".")
    count = 0
    for path in known:
        if path.startswith(f"{stem}-") and path.endswith(f".{suffix}"):
            middle = _PART.fullmatch(path[len(stem) : -len(suffix) - 1])
            count = int(middle[2]) if middle else count
    wanted = rank_paths(rank, layout, count) if count > 1 else ()
    return wanted if known.issuperset(wanted) else ()
