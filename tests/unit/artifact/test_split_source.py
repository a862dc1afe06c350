"""A split folder as a source: what was decided when it was split is not passed over."""

from pathlib import Path
from typing import Any

import pytest

from neuronc.artifact.weights import open_source
from neuronc.errors import PlanError, UsageError
from neuronc.pipeline import split
from neuronc.recipe import Recipe
from tests.tiny_families import random_encoder


@pytest.fixture(scope="module")
def decoder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder") / "split"
    split(Recipe(checkpoint=str(tiny_checkpoint)), folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("encoder")
    random_encoder("bert").save_pretrained(place / "in")
    split(Recipe(checkpoint=str(place / "in")), place / "split")
    return place / "split"


def opened(folder: Path, **fields: Any) -> Any:
    recipe = Recipe(checkpoint=str(folder), **fields)
    return open_source(recipe, lower_only=False, config_only=False)


@pytest.mark.parametrize("fields", [{"buckets": (8,)}, {"pooling": "cls"}, {"normalize": False}])
def test_words_about_embedding_are_refused_for_a_decoder(
    decoder: Path, fields: dict[str, Any]
) -> None:
    assert opened(decoder).config.embedding is None
    with pytest.raises(UsageError, match=f"{next(iter(fields))} is for encoders"):
        opened(decoder, **fields)


def test_another_task_is_refused(decoder: Path, encoder: Path) -> None:
    with pytest.raises(PlanError, match="was split for task generate; asked for embed"):
        opened(decoder, task="embed")
    with pytest.raises(PlanError, match="was split for task embed; asked for generate"):
        opened(encoder, task="generate")


def test_another_pooling_is_refused(encoder: Path) -> None:
    assert opened(encoder, task="embed", pooling="mean", normalize=True, buckets=(8,)).split
    with pytest.raises(PlanError, match="was split for pooling mean; asked for cls"):
        opened(encoder, pooling="cls")
    with pytest.raises(PlanError, match="was split for normalize True; asked for False"):
        opened(encoder, normalize=False)
