"""The command in a statement asks for the same recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronc import pipeline
from neuronc.cli.app import main
from neuronc.errors import PlanError
from neuronc.provenance.command import command_of
from neuronc.recipe import Recipe


@pytest.mark.parametrize(
    ("recipe", "is_bundle"),
    [
        (Recipe(checkpoint="org/model"), False),
        (
            Recipe(
                checkpoint="org/model", revision="main", adapter="polite", task="generate", tp=4,
                batch_size=2, max_length=64, prefill_buckets=(8, 16), decode_buckets=(32, 64),
                dtype="bf16", quantize="int8", target="trn2", lnc=2, cc_args=("--a=b c", "-x"),
                on_device_sampling=True, top_k_call=True,
            ),
            True,
        ),
        (Recipe(checkpoint="e", task="embed", buckets=(8,), pooling="cls", normalize=False), False),
        (Recipe(checkpoint="e", task="embed", normalize=True), False),
    ],
)  # fmt: skip
def test_the_command_line_gives_the_recipe_back(
    recipe: Recipe, is_bundle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Recipe, Any]] = []

    def stop(found: Recipe, _: Path, **settings: Any) -> None:
        seen.append((found, settings["options"]))
        message = "far enough"
        raise PlanError(message)

    monkeypatch.setattr(pipeline, "build_cached", stop)
    words = command_of(recipe.to_dict(), is_bundle=is_bundle)
    assert words[:3] == ["neuronc", "build", recipe.checkpoint]
    assert main([*words[1:], "-o", "out", "--cache", "off", "--quiet"]) == 4
    ((found, options),) = seen
    assert found == replace(recipe, out=Path("out"))
    assert options.lower_only is is_bundle


def test_defaults_are_left_out_and_a_config_alone_is_said() -> None:
    asked = {"checkpoint": "model", "tp": 1, "config_only": True}
    words = command_of(asked, is_bundle=True)
    assert words == ["neuronc", "build", "model", "--lower-only", "--config-only"]
