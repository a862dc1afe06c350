"""Checkpoints that do not fit their config are refused before a byte is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from neuronc.errors import InputError
from tests.unit.parallel.splitting import split

UP = "model.layers.0.mlp.up_proj.weight"

FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a tensor of one layer": ({UP: None}, {}, "lacks 'mlp.up_proj.weight' of layer 0"),
    "a tensor of all layers": (
        {UP: None, UP.replace("0", "1"): None},
        {},
        "lacks 'mlp.up_proj.weight' of every layer",
    ),
    "a layer": ({}, {"num_hidden_layers": 3}, "lacks layer 2 of 3"),
    "a layer too many": ({}, {"num_hidden_layers": 1}, "has a layer 1; config.json says 1 layers"),
    "the head": ({}, {"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
    "the embedding": ({"model.embed_tokens.weight": None}, {}, "lacks 'embed_tokens.weight'"),
    "the last norm": ({"model.norm.weight": None}, {}, "lacks the norm after the last layer"),
    "a tensor too many": (
        {"model.layers.1.mlp.router.weight": np.zeros((4, 36), np.float32)},
        {},
        r"matches 'model.layers.1.mlp.router.weight' \[4, 36\]",
    ),
    "a wrong shape": (
        {UP: np.zeros((36, 96), np.float32)},
        {},
        rf"'{UP}' has shape \[36, 96\]; the config's sizes give \[96, 36\]",
    ),
    "weights of 8-bit floats": (
        {UP: np.zeros((96, 36), ml_dtypes.float8_e4m3fn)},
        {},
        f"tensor '{UP}' of .* is f8e4m3fn; expected floating point, 8-bit float",
    ),
    "quantized weights": (
        {UP: np.zeros((96, 36), np.int8)},
        {},
        f"tensor '{UP}' of .* is i8; expected floating point",
    ),
    "heads that do not share": ({}, {"num_key_value_heads": 2}, "num_key_value_heads .* divisor"),
}


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_unfit_checkpoint_is_refused_before_anything_is_written(
    changed: Callable[..., Path], tmp_path: Path, fault: str, tp: int
) -> None:
    tensors, config, message = FAULTS[fault]

    with pytest.raises(InputError, match=message) as caught:
        split(changed(tensors, **config), tmp_path / "out", tp=tp)

    assert caught.value.exit_code == 3
    assert caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []
