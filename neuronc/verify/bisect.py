"""Where an artifact begins to differ: its programs made again, each layer's output compared.

A first prefill chunk and a decode step (of an encoder: one text) run through programs that also
give out what every layer does; transformers' layers are watched on the same tokens. The weights
are the artifact's, the programs those that this neuronc makes of its config for its target,
without sampling on the device, which comes after all layers.
"""

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neuronc.artifact.contents import take_program
from neuronc.artifact.manifest import PROGRAMS_DIR, WEIGHTS_DIR, Manifest, read_manifest
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.dtypes import DTYPES
from neuronc.families.model_config import ModelConfig
from neuronc.lower.jobs import ProgramJob, run_jobs
from neuronc.parallel.split_manifest import read_split_manifest
from neuronc.progress import SILENT, Progress
from neuronc.runtime.cpu_ranks import CpuRanks, open_cpu_ranks
from neuronc.targets.host import describe_host
from neuronc.trace.program_spec import ProgramSpec
from neuronc.verify.cases import real_tokens
from neuronc.verify.compare import FACTOR, relative_error, tolerance_ulp
from neuronc.verify.verify import open_references

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerError:
    """One layer of one program.

    Attributes:
        program: Its name.
        layer: The layer's name in the model.
        ulp: Largest difference from transformers' in f32 over the largest value, in units of the
            dtype's spacing at 1.
        dtype_ulp: The same of transformers in the artifact's dtype; None for f32.
        differs: Whether that is more than rounding.
    """

    program: str
    layer: str
    ulp: float
    dtype_ulp: float | None
    differs: bool


def bisect_artifact(
    folder: Path, *, checkpoint: Checkpoint | None = None, progress: Progress = SILENT
) -> list[LayerError]:
    """Compare the layers of the artifact in ``folder`` with transformers', in order.

    Compiles a program of each kind once more; memory as for verification. Empty for a model whose
    layers are not a list of modules.

    Args:
        folder: The artifact.
        checkpoint: Where the reference's weights come from; None puts the rank shards together.
        progress: Told of every stage.
    """
    manifest, weights_dir = read_manifest(folder), folder / WEIGHTS_DIR
    config, references, _ = open_references(weights_dir, checkpoint, progress)
    specs = _specs(manifest)
    tokens = real_tokens(weights_dir, config.vocab_size)
    tokens = [tokens[i % len(tokens)] for i in range(specs[0].bucket + 1)]
    with tempfile.TemporaryDirectory() as scratch:
        ranks, layers = _tapped(manifest, config, specs, weights_dir, Path(scratch), progress)
        wanted = list(layers.values())
        found = {spec.name: _run(ranks, spec, tokens, wanted) for spec in specs}
    length = specs[0].bucket if manifest.embeds else len(tokens)
    truth = references.truth.layers(tokens[:length])
    own = references.same_dtype.layers(tokens[:length]) if references.same_dtype else None
    errors = _Errors(manifest.dtype, config.num_layers)
    return [
        errors.of(spec, name, taken, truth[name], own[name] if own else None)
        for spec in specs
        for name, taken in zip(layers, found[spec.name], strict=True)
    ]


def _specs(manifest: Manifest) -> list[ProgramSpec]:
    """The smallest program of every kind."""
    sized = partial(ProgramSpec, batch_size=manifest.batch_size, max_length=manifest.max_length)
    if manifest.embeds:
        return [sized(phase="embed", bucket=manifest.embed_buckets[0])]
    prefill = min(manifest.prefill_buckets[0], manifest.max_length - 1)
    bucket = next(b for b in manifest.decode_buckets if b > prefill)
    return [
        sized(phase="prefill", bucket=prefill),
        sized(phase="decode", bucket=bucket),
    ]


def _tapped(
    manifest: Manifest,
    config: ModelConfig,
    specs: list[ProgramSpec],
    weights_dir: Path,
    scratch: Path,
    progress: Progress,
) -> tuple[CpuRanks, dict[str, int]]:
    """The ranks with programs that give out their layers, and each layer's output by its name."""
    split = read_split_manifest(weights_dir)
    jobs = [
        ProgramJob(
            name=spec.name,
            tp=manifest.tp,
            spec=spec,
            config=config.raw,
            source=split.source,
            shapes={name: tuple(shape) for name, shape in split.shapes.items()},
            dtype=manifest.dtype,
            quantize=split.quantize,
            target=manifest.target,  # a Neuron artifact's programs are legalised
            top_k_call=manifest.num_top_k_calls > 0,
            make_executable=True,
            taps=True,
        )
        for spec in specs
    ]
    run_jobs(jobs, scratch / PROGRAMS_DIR, progress=progress)
    entries = tuple(take_program(scratch, spec) for spec in specs)
    (scratch / WEIGHTS_DIR).symlink_to(weights_dir.resolve())
    outputs = entries[0].signature.outputs
    layers = {t.name: n for n, t in enumerate(outputs) if n > 0 and t.kind == "data"}
    host = describe_host()
    ranks = open_cpu_ranks(scratch, replace(manifest, programs=entries, host=host))
    return ranks, layers


def _run(ranks: CpuRanks, spec: ProgramSpec, tokens: list[int], wanted: list[int]) -> list[Array]:
    """Each layer's output ``[tokens, hidden]`` for the first slot or text."""
    data: list[Any]
    batch, last = spec.batch_size, len(tokens) - 1
    if spec.phase == "embed":
        data = [[tokens[:last]] * batch, [last] * batch]
    elif spec.phase == "prefill":
        data = [[tokens[:last]], [0], [0], [last]]
    else:
        data = [[tokens[last]] * batch, [last] * batch]
    arrays = [np.array(part, np.int32) for part in data]
    return [layer[0] for layer in ranks.run(spec.phase, spec.bucket, arrays, wanted=wanted)]


class _Errors:
    """What is rounding and what is not."""

    def __init__(self, dtype: str, num_layers: int) -> None:
        self.eps, self.allowed = DTYPES[dtype].eps, tolerance_ulp(None, num_layers)

    def of(
        self, spec: ProgramSpec, layer: str, found: Array, truth: Array, own: Array | None
    ) -> LayerError:
        """The error of ``found`` at the positions that the program ``spec`` saw."""
        at = slice(len(truth) - 1, None) if spec.phase == "decode" else slice(0, len(found))
        ulp = relative_error(found, truth[at]) / self.eps
        if own is None:
            return LayerError(
                program=spec.name,
                layer=layer,
                ulp=ulp,
                dtype_ulp=None,
                differs=not ulp <= self.allowed,
            )
        dtype_ulp = relative_error(own[at], truth[at]) / self.eps
        return LayerError(
            program=spec.name,
            layer=layer,
            ulp=ulp,
            dtype_ulp=dtype_ulp,
            differs=not ulp <= max(1.0, FACTOR * dtype_ulp),
        )
