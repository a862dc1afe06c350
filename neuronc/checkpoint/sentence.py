"""What sentence-transformers keeps beside a checkpoint: how token outputs become one embedding.

``modules.json`` lists the stages of such a model, ``1_Pooling/config.json`` says how to pool
(sentence_transformers/models/Pooling.py).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from neuronc.checkpoint.paths import path_below, reading
from neuronc.errors import InputError, UsageError
from neuronc.families.embedding import FIELD, Embedding, Pooling, with_embedding
from neuronc.families.model_config import is_encoder
from neuronc.recipe import Recipe

MODULES = "modules.json"
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_STAGES = ("Transformer", "Pooling", "Normalize")
_MAX_BYTES = 1_000_000


def config_for(recipe: Recipe, config: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """``config`` of the checkpoint in ``folder``, told how to embed where that is the task.

    The recipe's word counts, then what lies beside the checkpoint, then mean and normalised.

    Raises:
        InputError: the files beside it are damaged, or ask for what no program of ours does.
        UsageError: the recipe says how to embed, and the task is to generate.
    """
    embeds = recipe.task == "embed" or (recipe.task == "auto" and is_encoder(config))
    if not embeds:
        refuse_words_of(recipe)
        return {name: value for name, value in config.items() if name != FIELD}
    found = Embedding(**config[FIELD]) if FIELD in config else _beside(folder, recipe)
    return with_embedding(
        config,
        Embedding(
            pooling=recipe.pooling or found.pooling,  # type: ignore[arg-type]
            normalize=found.normalize if recipe.normalize is None else recipe.normalize,
        ),
    )


def refuse_words_of(recipe: Recipe) -> None:
    """Raise `UsageError` for a recipe of a decoder that says how to embed."""
    for name in ("pooling", "normalize", "buckets"):
        if getattr(recipe, name) not in (None, ()):
            message = f"{name} is for encoders, and the task is to generate"
            way_out = "pass --prefill-buckets" if name == "buckets" else "leave it out"
            raise UsageError(message, hint=way_out)


def _beside(folder: Path, recipe: Recipe) -> Embedding:
    stages = _read(folder, MODULES)
    if stages is None:
        return Embedding()
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        message = f"{folder / MODULES} is not a list of stages"
        raise InputError(message, hint="download the checkpoint again")
    kinds = {str(stage.get("type", "")).rpartition(".")[2]: stage for stage in stages}
    if strange := set(kinds) - set(_STAGES):
        message = f"{folder / MODULES} has a stage {min(strange)!r}; known are {_STAGES}"
        raise InputError(message, hint="neuronc embeds by pooling and normalising alone")
    normalize = "Normalize" in kinds
    if recipe.pooling is not None or "Pooling" not in kinds:
        return Embedding(normalize=normalize)
    return Embedding(
        pooling=_pooling(folder, str(kinds["Pooling"].get("path"))), normalize=normalize
    )


def _pooling(folder: Path, path: str) -> Pooling:
    settings = _read(folder, f"{path}/config.json")
    if settings is None:
        message = f"{folder} lacks {path}/config.json, which {MODULES} names"
        raise InputError(message, hint="download the checkpoint again, or pass --pooling")
    asked = settings if isinstance(settings, dict) else {}
    modes = [m for m, on in asked.items() if m.startswith("pooling_mode_") and on is True]
    for name, pooling in _MODES.items():
        if modes == [name] or asked.get("pooling_mode") == pooling:
            return pooling  # type: ignore[return-value]
    message = f"{folder} pools by {', '.join(modes) or asked}; expected one of {get_args(Pooling)}"
    raise InputError(message, hint="pass --pooling mean or --pooling cls to embed in that way")


def _read(folder: Path, name: str) -> Any:
    """The JSON in a file of ``folder``; None without such a file."""
    path = path_below(folder, name)
    if not path.is_file():
        return None
    with reading(path):
        data = path.read_bytes()[:_MAX_BYTES]
    try:
        return json.loads(data)
    except ValueError as error:
        message = f"{path} is not JSON: {error}"
        raise InputError(message, hint="download the checkpoint again") from error
