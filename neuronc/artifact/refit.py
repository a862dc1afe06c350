"""Other weights for compiled programs: a fine-tune of the model that an artifact was made of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronc.artifact.contents import digest_files
from neuronc.artifact.link import link_files
from neuronc.artifact.manifest import WEIGHTS_DIR, Manifest, read_manifest
from neuronc.artifact.reuse import describe_request
from neuronc.artifact.same_config import first_difference
from neuronc.artifact.weights import Source, is_split_folder, open_source, put_weights
from neuronc.checkpoint.digest import sha256_file
from neuronc.checkpoint.folder import read_config
from neuronc.checkpoint.sentence import MODULES
from neuronc.checkpoint.source import resolve_source
from neuronc.errors import InputError
from neuronc.families.embedding import read_embedding
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.modules import EMBEDDING, HEAD
from neuronc.parallel.rules import ParamRule
from neuronc.parallel.split_manifest import (
    SPLIT_FILE,
    SplitManifest,
    check_files,
    read_split_manifest,
)
from neuronc.parallel.stored import stored_tensors
from neuronc.progress import Progress
from neuronc.recipe import Recipe
from neuronc.targets.neuron.settings import NOT_ON_HARDWARE

if TYPE_CHECKING:
    import numpy as np

_OF_WEIGHTS = (
    "checkpoint", "revision", "adapter", "dtype", "config_only", "checkpoint_files",
    "adapter_files",
)  # fmt: skip
"""What of a manifest's request is about the weights."""

_ANOTHER = "its programs are for another model: compile the checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class Refit:
    """An artifact and the weights that fit it; nothing is written yet.

    Attributes:
        folder: The artifact whose programs are kept.
        manifest: Its manifest.
        recipe: What `source` was opened with.
        source: The new weights, opened.
    """

    folder: Path
    manifest: Manifest
    recipe: Recipe
    source: Source


def prepare_refit(
    folder: Path, weights: str, *, revision: str | None = None, adapter: str | None = None
) -> Refit:
    """Open ``weights`` for the programs of the artifact in ``folder``.

    Reads headers, config.json and, of a tied model with a head in its checkpoint, that head. The
    digests of the artifact's programs are compared; its weights are not read.

    Args:
        folder: An artifact or bundle with weights.
        weights: CHECKPOINT, or a split folder.
        revision: Of a Hub id.
        adapter: Folder of a LoRA adapter to merge into the checkpoint.

    Raises:
        InputError: the artifact is damaged or has no weights; or config.json, a tensor's name or
            shape, tying or the layout over the ranks is another than the programs were made for.
        PlanError: a split folder for another tp degree or dtype.
        UsageError: ``revision`` or ``adapter`` for what has none.
    """
    manifest = read_manifest(folder)
    weights_dir = folder / WEIGHTS_DIR
    if not (weights_dir / SPLIT_FILE).is_file():
        message = f"{folder} was lowered from config alone: it has no weights to replace"
        raise InputError(message, hint="neuronc compile BUNDLE --weights SPLIT puts weights in")
    check_files(folder, tuple(f for f in manifest.files if not _is_rank_file(f.path)))
    old = read_split_manifest(weights_dir)
    config = read_model_config(read_config(weights_dir), source=str(folder))
    recipe = _recipe_for(manifest, config, weights, revision, adapter)
    source = open_source(recipe, lower_only=False, config_only=False)
    _check_config(folder, config, source)
    _check_shapes(folder, old, source)
    _check_layout(folder, manifest, old, source)
    _check_tied(source)
    return Refit(folder=folder, manifest=manifest, recipe=recipe, source=source)


def put_refit(refit: Refit, staging: Path, progress: Progress) -> tuple[Manifest, SplitManifest]:
    """Link the programs and write the new weights into the empty folder ``staging``.

    The manifest, which is not written, says unverified and, for a Neuron target, not run on a
    device: what was proven was proven with other weights.
    """
    manifest, source = refit.manifest, refit.source
    kept = [file for file in manifest.files if not file.path.startswith(f"{WEIGHTS_DIR}/")]
    link_files(refit.folder, staging, [file.path for file in kept])
    split = put_weights(source, staging / WEIGHTS_DIR, progress)
    assert split is not None, "a checkpoint or a split folder has weights"
    known = {file.path: file.sha256 for file in kept}
    known |= {f"{WEIGHTS_DIR}/{file.path}": file.sha256 for file in split.files}
    neuron = None
    if manifest.neuron is not None:
        neuron = {**manifest.neuron, "hardware": NOT_ON_HARDWARE}
    fresh = replace(
        manifest,
        model={
            "model_type": source.config.model_type,
            "source": source.name,
            "config_sha256": sha256_file(staging / WEIGHTS_DIR / "config.json"),
        },
        neuron=neuron,
        files=digest_files(staging, known=known),
        request=_request_of(refit),
        verification=None,
    )
    return fresh, split


def _request_of(refit: Refit) -> dict[str, object]:
    """The artifact's, for other weights: a build that asks for just that finds it done."""
    own = describe_request(refit.recipe)
    kept = {
        name: value for name, value in refit.manifest.request.items() if name not in _OF_WEIGHTS
    }
    of_weights = {name: own[name] for name in _OF_WEIGHTS if name in own}
    return {**kept, **of_weights, "refit_of": refit.manifest.digest}


def _is_rank_file(path: str) -> bool:
    return path.startswith(f"{WEIGHTS_DIR}/") and path.endswith(".safetensors")


def _recipe_for(
    manifest: Manifest,
    config: ModelConfig,
    weights: str,
    revision: str | None,
    adapter: str | None,
) -> Recipe:
    """What opens ``weights`` as the artifact needs them."""
    recipe = Recipe(
        checkpoint=weights,
        revision=revision,
        adapter=adapter,
        task="generate" if config.embedding is None else "embed",
        tp=manifest.tp,
        dtype=manifest.dtype,
        quantize=None if is_split_folder(weights) else manifest.quantize,
    )
    if config.embedding is None or is_split_folder(weights):
        return recipe
    path = resolve_source(weights, revision=revision)
    own = read_embedding(read_config(path), source=weights) if path.is_dir() else None
    if own is not None or (path / MODULES).is_file():
        return recipe
    embedding = config.embedding  # the checkpoint says nothing of pooling
    return replace(recipe, pooling=embedding.pooling, normalize=embedding.normalize)


def _check_config(folder: Path, config: ModelConfig, source: Source) -> None:
    if difference := first_difference(source.config, config):
        message = f"config.json of {source.name} does not fit the programs of {folder}: "
        raise InputError(message + difference, hint=_ANOTHER)


def _check_shapes(folder: Path, old: SplitManifest, source: Source) -> None:
    new = {name: tuple(shape) for name, shape in (source.shapes or {}).items()}
    if lost := old.shapes.keys() - new.keys():
        message = f"{source.name} lacks tensor {min(lost)!r}, which the programs of {folder} take"
        raise InputError(message, hint=_ANOTHER)
    if extra := new.keys() - old.shapes.keys():
        message = f"{source.name} has tensor {min(extra)!r}, which no program of {folder} takes"
        raise InputError(message, hint=_ANOTHER)
    for name, shape in new.items():
        if shape != old.shapes[name]:
            message = f"tensor {name!r} of {source.name} is {list(shape)}; expected"
            message += f" {list(old.shapes[name])} as in {folder}"
            raise InputError(message, hint=_ANOTHER)


def _check_layout(folder: Path, manifest: Manifest, old: SplitManifest, source: Source) -> None:
    """The same part of every tensor on every rank, padding too, and as the programs take it."""
    if source.quantize != manifest.quantize:
        kind = source.quantize or source.dtype
        message = f"{source.name} holds {kind} weights; the programs of {folder} take"
        message += f" {manifest.quantize or manifest.dtype}"
        raise InputError(message, hint="pass the checkpoint itself, or split it as they need it")
    rules = _rules(source)
    for name, rule in rules.items():
        there = old.tensors[name].rule
        if rule != there:
            message = f"{name!r} is split otherwise for the programs of {folder}"
            message += f": {there.role} over dim {there.dim}, here {rule.role} over dim {rule.dim}"
            raise InputError(message, hint="another neuronc made it: compile the checkpoint")
    _check_taken(folder, manifest, rules, source)


def _check_taken(
    folder: Path, manifest: Manifest, rules: Mapping[str, ParamRule], source: Source
) -> None:
    """Whether the programs take just what the rank files will hold, scales among it."""
    taken = {
        tensor.name: (tensor.shape, tensor.dtype)
        for tensor in manifest.programs[0].signature.inputs
        if tensor.kind == "weight"
    }
    stored = stored_tensors(rules.values(), dtype=source.dtype, scheme=source.quantize)
    here = {tensor.rule.name: (tensor.rule.rank_shape, tensor.dtype) for tensor in stored}
    for name, found in here.items():
        if taken.get(name) != found:
            message = f"the programs of {folder} take {name!r} as {taken.get(name)}, not {found}"
            raise InputError(message, hint="another neuronc made it: compile the checkpoint")
    if unfilled := taken.keys() - here.keys():
        message = f"the programs of {folder} take {min(unfilled)!r}, which its weights do not hold"
        raise InputError(message, hint="the artifact is damaged: compile the checkpoint")


def _rules(source: Source) -> Mapping[str, ParamRule]:
    if source.split is not None:
        return {name: tensor.rule for name, tensor in source.split.tensors.items()}
    plan = source.plan()
    assert plan is not None, "a source with weights has a plan"
    return plan.rules


def _check_tied(source: Source) -> None:
    """A second copy of a tied head is dropped: then it has to be a copy."""
    checkpoint = source.checkpoint
    if checkpoint is None or not source.config.tie_word_embeddings:
        return
    heads = [n for n in checkpoint.tensors if HEAD.fullmatch(n) and n.endswith(".weight")]
    tables = [n for n in checkpoint.tensors if EMBEDDING.fullmatch(n)]
    for head, table in zip(heads, tables, strict=False):
        if not _is_copy(checkpoint.reader.read(head), checkpoint.reader.read(table)):
            message = f"{source.name} has a {head!r} that is not its {table!r}, although"
            message += " config.json ties them, as the programs do"
            raise InputError(message, hint="set tie_word_embeddings to false, and compile it")


def _is_copy(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> bool:
    """Whether the bytes are the same, some rows at a time: a vocabulary may be large."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    blocks = (slice(start, start + 1024) for start in range(0, len(one), 1024))
    return all(one[rows].tobytes() == other[rows].tobytes() for rows in blocks)
