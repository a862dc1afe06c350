"""Rank files to device arrays: one array over all ranks per weight."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuronc.checkpoint.safetensors_reader import SafetensorsReader, read_safetensors_header
from neuronc.dtypes import DTYPES, numpy_dtype
from neuronc.parallel.split_manifest import rank_file
from neuronc.targets.cpu import make_mesh, sharding
from neuronc.trace.program_spec import TensorSpec


def load_weights(weights_dir: Path, specs: tuple[TensorSpec, ...], *, tp: int) -> list[Any]:
    """Put every rank's weights on its device, in the order of ``specs``.

    The files are mapped; where a tensor's place in the file is aligned as XLA wants it, its pages
    are used as they are and nothing is copied.
    """
    mesh = make_mesh(tp)
    readers = [
        SafetensorsReader(
            folder=weights_dir, stored=read_safetensors_header(weights_dir / rank_file(rank))
        )
        for rank in range(tp)
    ]
    devices = list(mesh.devices.flat)
    arrays = []
    for spec in specs:
        shards = [
            jax.device_put(reader.read(spec.name), device)
            for reader, device in zip(readers, devices, strict=True)
        ]
        shape = (spec.shape[0] * tp, *spec.shape[1:])
        arrays.append(jax.make_array_from_single_device_arrays(shape, sharding(mesh, spec), shards))
    return arrays


def rank_numbers(spec: TensorSpec, *, tp: int) -> Any:
    """The input that tells each rank its number."""
    return jax.device_put(np.arange(tp, dtype=np.int32), sharding(make_mesh(tp), spec))


def empty_cache(spec: TensorSpec, *, tp: int) -> Any:
    """A zeroed KV cache over all ranks."""
    shape = (spec.shape[0] * tp, *spec.shape[1:])
    dtype = numpy_dtype(DTYPES[spec.dtype])
    return jax.device_put(np.zeros(shape, dtype=dtype), sharding(make_mesh(tp), spec))
