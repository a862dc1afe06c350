"""Splitting a checkpoint folder, and putting what came out together again."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from neuronc.checkpoint.checkpoint import open_checkpoint
from neuronc.parallel.shards import join_shards
from neuronc.parallel.split_manifest import SplitManifest
from neuronc.parallel.split_tensors import split_checkpoint

Arrays = dict[str, np.ndarray[Any, Any]]


def split(source: Path, out_dir: Path, *, tp: int = 2, dtype: str = "auto") -> SplitManifest:
    out_dir.mkdir()
    return split_checkpoint(open_checkpoint(str(source)), out_dir, tp=tp, dtype=dtype)


def joined(folder: Path, manifest: SplitManifest) -> Arrays:
    ranks = [load_file(folder / f"rank-{rank}.safetensors") for rank in range(manifest.tp)]
    return {
        name: join_shards([rank[name] for rank in ranks], tensor.rule)
        for name, tensor in manifest.tensors.items()
    }
