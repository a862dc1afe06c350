"""Where an artifact's weights come from: a checkpoint to split, a split folder, or config alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from neuronc.artifact.link import link_files
from neuronc.checkpoint.checkpoint import Checkpoint
from neuronc.checkpoint.companions import write_companions
from neuronc.checkpoint.config_only import ConfigOnly, declared_dtype, open_config_only
from neuronc.checkpoint.folder import has_weights, read_config
from neuronc.checkpoint.lora import open_adapter
from neuronc.checkpoint.remote.mirror import mirror_of, named_by_url
from neuronc.checkpoint.remote.url import local_form
from neuronc.checkpoint.sentence import config_for, refuse_words_of
from neuronc.checkpoint.source import portable_source, resolve_source
from neuronc.errors import PlanError, UsageError
from neuronc.families.model_config import ModelConfig, read_model_config
from neuronc.parallel.layouts.nxdi import is_nxdi_folder
from neuronc.parallel.layouts.open_any import open_any_checkpoint
from neuronc.parallel.merge_adapter import merge_adapter
from neuronc.parallel.model_names import named_as_model
from neuronc.parallel.model_tensors import model_tensors
from neuronc.parallel.modules import config_shapes
from neuronc.parallel.plan import ParallelPlan, plan_parallelism
from neuronc.parallel.split_manifest import (
    SPLIT_FILE,
    SplitManifest,
    check_files,
    read_layout,
    read_split_manifest,
)
from neuronc.parallel.split_tensors import resolve_dtype, split_checkpoint
from neuronc.progress import Progress
from neuronc.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model that was opened; nothing of it is written yet.

    Attributes:
        name: As the manifest names it.
        config: Its config.json.
        tp: Number of ranks.
        dtype: Element type of weights and arithmetic.
        quantize: How weights are quantised, a key of `neuronc.parallel.quantize.SCHEMES`.
        shapes: Whole shape of every parameter; None where there is only a config.
        checkpoint: Opened checkpoint, where there is one.
        config_only: Opened config, where that is all.
        split: Manifest of a split folder; None for a checkpoint.
        folder: The split folder.
    """

    name: str
    config: ModelConfig
    tp: int
    dtype: str
    quantize: str | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    checkpoint: Checkpoint | None = None
    config_only: ConfigOnly | None = None
    split: SplitManifest | None = None
    folder: Path | None = None

    @property
    def has_weights(self) -> bool:
        """Whether there is more than a config."""
        return self.shapes is not None

    def plan(self) -> ParallelPlan | None:
        """The parallel plan; of a config alone, of the parameters that it gives by itself.

        None for a config of a family that nobody described.

        Raises:
            PlanError: the model cannot be split over the ranks.
        """
        if self.shapes is None and self.config.family.why_not:
            return None
        shapes = config_shapes(self.config) if self.shapes is None else self.shapes
        return plan_parallelism(self.config, shapes, self.tp, quantize=self.quantize)


def is_split_folder(source: str) -> bool:
    """Whether ``source`` names a folder of rank files made by `split`.

    In the layouts of other tools it is a checkpoint like any other.
    """
    folder = Path(local_form(source))
    if source.startswith("package:") or not (folder / SPLIT_FILE).is_file():
        return False
    return read_layout(folder) not in ("transformers-neuronx", "nxdi")


def open_source(recipe: Recipe, *, lower_only: bool, config_only: bool) -> Source:
    """Open what ``recipe`` names; headers are read, no weights.

    With ``lower_only`` a folder may lack weights; with ``config_only`` they are not looked at, and
    of a Hub id only the config and tokenizer are downloaded.

    Raises:
        InputError: what `open_checkpoint` and `read_model_config` refuse.
        PlanError: a split folder for another tp degree or dtype.
        UsageError: an adapter for something that is not split here.
    """
    if is_split_folder(recipe.checkpoint):
        _refuse_adapter(recipe, "is split already")
        return _split_source(recipe)
    weights = not config_only
    path = resolve_source(recipe.checkpoint, revision=recipe.revision, weights=weights)
    if config_only or (lower_only and _lacks_weights(path)):
        _refuse_adapter(recipe, "is opened without weights")
        return _config_source(recipe)
    checkpoint = open_for(recipe)
    config = read_model_config(checkpoint.config, source=checkpoint.source)
    checkpoint = named_as_model(checkpoint, config)
    infos = model_tensors(checkpoint, config)
    return Source(
        name=portable_source(recipe.checkpoint),
        config=config,
        tp=recipe.tp,
        dtype=resolve_dtype(infos, recipe.dtype, source=checkpoint.source).name,
        quantize=recipe.quantize,
        shapes={name: info.shape for name, info in infos.items()},
        checkpoint=checkpoint,
    )


def open_for(recipe: Recipe) -> Checkpoint:
    """The checkpoint that ``recipe`` names, its config told the task, its adapter merged.

    Raises:
        InputError: as `open_source`, and what `open_adapter` and `merge_adapter` refuse.
    """
    checkpoint = open_any_checkpoint(recipe.checkpoint, revision=recipe.revision)
    with named_by_url(checkpoint.path):
        config = config_for(recipe, checkpoint.config, checkpoint.path)
    checkpoint = replace(checkpoint, config=config)
    if recipe.adapter is None:
        return checkpoint
    model = read_model_config(checkpoint.config, source=checkpoint.source)
    return merge_adapter(checkpoint, model, open_adapter(Path(recipe.adapter)))


def _refuse_adapter(recipe: Recipe, what: str) -> None:
    if recipe.adapter is not None:
        message = f"an adapter is merged while a checkpoint is split; {recipe.checkpoint} {what}"
        raise UsageError(message, hint="pass the checkpoint itself, with its weights")


def put_weights(source: Source, weights_dir: Path, progress: Progress) -> SplitManifest | None:
    """Write or link the rank files of ``source``; of a config alone, what lies beside it."""
    weights_dir.mkdir()
    if source.split is not None and source.folder is not None:
        check_files(source.folder, source.split.files)
        names = [SPLIT_FILE, *(file.path for file in source.split.files)]
        link_files(source.folder, weights_dir, names)
        return source.split
    if source.config_only is not None:
        write_companions(source.config_only, weights_dir)
        return None
    if source.checkpoint is None:  # a Source has one of the three
        raise AssertionError
    return split_checkpoint(
        source.checkpoint,
        weights_dir,
        tp=source.tp,
        dtype=source.dtype,
        quantize=source.quantize,
        progress=progress,
    )


def _lacks_weights(path: Path) -> bool:
    if (mirror := mirror_of(path)) is not None and mirror.safetensors:
        return False
    return path.is_dir() and not has_weights(path) and not is_nxdi_folder(path)


def _split_source(recipe: Recipe) -> Source:
    folder = Path(local_form(recipe.checkpoint))
    split = read_split_manifest(folder)
    if split.tp != recipe.tp or recipe.dtype not in ("auto", split.dtype):
        message = (
            f"{folder} was split for tp={split.tp}, dtype {split.dtype};"
            f" asked for tp={recipe.tp}, dtype {recipe.dtype}"
        )
        hint = f"pass --tp {split.tp} and no --dtype, or split the checkpoint again"
        raise PlanError(message, hint=hint)
    if recipe.quantize not in (None, split.quantize):
        message = f"{folder} holds {split.quantize or split.dtype} weights"
        message += f"; asked for quantize {recipe.quantize}"
        raise PlanError(message, hint="pass no --quantize, or split the checkpoint again with it")
    config = read_model_config(read_config(folder), source=split.source)
    _check_task(recipe, config, folder)
    return Source(
        name=split.source,
        config=config,
        tp=split.tp,
        dtype=split.dtype,
        quantize=split.quantize,
        shapes={name: tuple(shape) for name, shape in split.shapes.items()},
        split=split,
        folder=folder,
    )


def _check_task(recipe: Recipe, config: ModelConfig, folder: Path) -> None:
    """Whether the recipe asks for the task, and the embedding, that ``folder`` was split for."""
    embedding = config.embedding
    task = "generate" if embedding is None else "embed"
    if embedding is None:
        refuse_words_of(recipe)
    asked: dict[str, object] = {"task": None if recipe.task == "auto" else recipe.task}
    found: dict[str, object] = {"task": task}
    if embedding is not None:
        asked |= {"pooling": recipe.pooling, "normalize": recipe.normalize}
        found |= {"pooling": embedding.pooling, "normalize": embedding.normalize}
    for name, value in found.items():
        if asked[name] not in (None, value):
            message = f"{folder} was split for {name} {value}; asked for {asked[name]}"
            raise PlanError(message, hint="pass the checkpoint that it was made of")


def _config_source(recipe: Recipe) -> Source:
    found = open_config_only(recipe.checkpoint, revision=recipe.revision)
    with named_by_url(found.path):
        found = replace(found, config=config_for(recipe, found.config, found.path))
    name = portable_source(recipe.checkpoint)
    return Source(
        name=name,
        config=read_model_config(found.config, source=name),
        tp=recipe.tp,
        dtype=declared_dtype(found).name if recipe.dtype == "auto" else recipe.dtype,
        quantize=recipe.quantize,
        config_only=found,
    )
