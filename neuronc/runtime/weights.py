"""Rank files to device arrays: one array over all ranks per weight."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.parallel.rank_files import open_ranks
from neuronc.runtime.huge_pages import empty_in_huge_pages
from neuronc.targets.cpu import make_mesh, sharding
from neuronc.targets.cpu_merge import merge_inputs
from neuronc.trace.program_spec import MergedWeights, ProgramSignature, TensorSpec


def load_weights(
    weights_dir: Path, signature: ProgramSignature, merged: MergedWeights, *, tp: int
) -> list[Any]:
    """Put every rank's weights on its device, as an executable with ``merged`` weights takes them.

    Args:
        weights_dir: A split folder.
        signature: Of the program.
        merged: Names of the weights that are laid one after the other.
        tp: Number of ranks.

    The mapped files are copied, also where they could be used in place: a decode step that reads
    its weights from the page cache was measured to take 1.3 times as long. They are copied to large
    pages, which saves another twentieth of it.
    """
    mesh = make_mesh(tp)
    members = {group[0]: group for group in merged}
    specs = [t for t in merge_inputs(signature, merged).inputs if t.kind == "weight"]
    wanted = [(spec.shape, numpy_dtype(DTYPES[spec.dtype])) for spec in specs]
    shards = []
    for reader, device in zip(open_ranks(weights_dir), mesh.devices.flat, strict=True):
        arrays = empty_in_huge_pages(wanted)
        for spec, array in zip(specs, arrays, strict=True):
            array[...] = reader.read_rows(members.get(spec.name, (spec.name,)))
        shards.append([jax.device_put(array, device, may_alias=True) for array in arrays])
    return [
        jax.make_array_from_single_device_arrays(
            (spec.shape[0] * tp, *spec.shape[1:]), sharding(mesh, spec), [*of_ranks]
        )
        for spec, *of_ranks in zip(specs, *shards, strict=True)
    ]


def rank_numbers(spec: TensorSpec, *, tp: int) -> Any:
    """The input that tells each rank its number."""
    return jax.device_put(np.arange(tp, dtype=np.int32), sharding(make_mesh(tp), spec))


def empty_caches(program: Any, signature: ProgramSignature, *, tp: int) -> list[Any]:
    """Zeroed KV caches over all ranks, laid out as the opened ``program`` takes them."""
    mesh, (kinds, _) = make_mesh(tp), program.in_avals
    return [
        jax.device_put(np.zeros(kind.shape, kind.dtype), sharding(mesh, spec))
        for spec, kind in zip(signature.inputs, kinds, strict=True)
        if spec.kind == "cache"
    ]
