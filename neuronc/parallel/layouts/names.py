"""The layouts a split can be written in, and where each keeps a rank's weights."""

from typing import Literal, get_args

Layout = Literal["neuronc", "transformers-neuronx", "nxdi"]
"""``neuronc``: one file per rank and ``split.json``. ``transformers-neuronx``: a directory with one
file per parameter, unsharded. ``nxdi`` (NxD Inference): ``weights/`` with one file per rank.
"""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

NXDI_WEIGHTS = "weights"
"""Folder of NxD Inference's rank files."""


def rank_path(rank: int, layout: Layout) -> str:
    """Path of one rank's weight file inside its folder; ``transformers-neuronx`` has none."""
    if layout == "nxdi":
        return f"{NXDI_WEIGHTS}/tp{rank}_sharded_checkpoint.safetensors"
    return f"rank-{rank}.safetensors"


def weight_paths(tp: int, layout: Layout) -> tuple[str, ...]:
    """The rank files of a split for ``tp`` ranks, in order."""
    if layout == "transformers-neuronx":
        return ()
    return tuple(rank_path(rank, layout) for rank in range(tp))
